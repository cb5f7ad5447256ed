"""Tumour slide or not: a classifier of whole slides on what a result says of their tiles."""
