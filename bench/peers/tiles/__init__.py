"""A script for each peer that classifies tiles, run by the peer's own Python: none may import `pyramidai_mpi`.

`python -m bench.peers.tiles.with_NAME REQUEST.json` does as `protocol` says.
"""
