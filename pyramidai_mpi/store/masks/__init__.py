"""Masks of whole slides: tiled, pyramidal TIFFs of labels."""
