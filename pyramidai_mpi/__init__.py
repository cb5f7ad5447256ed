"""Pyramidal analysis of gigapixel images with MPI work stealing.

Importing the package starts neither MPI nor any heavy library.
"""

__version__ = "0.1.0"
