"""Whole-slide images: opening, levels at their spacing, pixels of a tile."""
