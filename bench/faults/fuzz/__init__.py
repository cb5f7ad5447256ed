"""Fuzzing of what comes from outside, with coverage of the program; see `__main__`."""
