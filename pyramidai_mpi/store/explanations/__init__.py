"""Explanations of tiles: where in each a network saw what speaks for a class, one HDF5 file a slide."""
