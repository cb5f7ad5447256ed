"""A script for each peer that shares out a tree of sleeping tiles, run by the peer's own Python.

Each is called with TREE.npz and WORKERS, and prints a line of JSON, `tree.Dealt`. None but
`with_ours` may import `pyramidai_mpi`.
"""
