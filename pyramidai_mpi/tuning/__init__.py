"""Choosing thresholds with known consequences, from labelled trees of exhaustive runs alone."""
