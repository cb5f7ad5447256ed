"""Benches of training."""
