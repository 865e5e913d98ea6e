"""The store in memory: for tests and benchmarks, and the proof that the port is enough for the rules."""
