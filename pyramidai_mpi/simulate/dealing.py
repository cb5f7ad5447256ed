"""Who begins with which roots."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


class Dealing(StrEnum):
    """How tasks that wait in one row are dealt to workers."""

    ROUND_ROBIN = "round-robin"
    """In turn: worker w gets every so-manieth from number w on. What the program does with the roots of one slide."""
    RANDOM = "random"
    """In turn after a shuffle, so that shares are equal and places are not."""
    BLOCK = "block"
    """A piece of the row each, as equal as can be."""
    SLIDES = "slides"
    """Whole slides in turn: who opens one begins with all its roots. What the program does with many slides."""


def owners(n: int, workers: int, dealing: Dealing, seed: int = 0) -> npt.NDArray[np.int64]:
    """Worker of each of `n` tasks in their order, int64 (n,); no two workers differ by more than one task."""
    in_turn = np.arange(n) % workers
    if dealing is Dealing.BLOCK:
        return np.sort(in_turn)
    return np.random.default_rng(seed).permutation(in_turn) if dealing is Dealing.RANDOM else in_turn
