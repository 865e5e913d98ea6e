"""Benchmarks, each against something that is known, in the same run: ``python -m benchmarks.<name> --json``."""
