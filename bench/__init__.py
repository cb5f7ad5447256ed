"""Benchmarks: each prints what it measured, with its setting."""
