"""The result file and everything that writes or reads it."""
