"""A script for each peer that classifies tiles, run by the peer's own Python: none may import `pyramidai_mpi`.

Each is called with REQUEST.json, and does as `protocol` says.
"""
