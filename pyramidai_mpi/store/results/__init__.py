"""The result file: written, sealed, read."""
