"""Training of the levels' networks (torch, optional)."""
