"""The store in an SQLite file: many processes of one machine, one writer at a time."""
