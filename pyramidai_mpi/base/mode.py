"""Which tiles a run analyses. Apart from the other types, so that a command line is checked without numpy."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """Which tiles a run analyses."""

    PYRAMID = "pyramid"
    """The roots, and the children of every tile that the decision block zooms into."""
    REFERENCE = "reference"
    """All level-0 descendants of the roots and nothing else: what a program without a pyramid does."""
    EXHAUSTIVE = "exhaustive"
    """The roots and all their descendants at every level."""
