"""Figures of merit of a run, as pure functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def speedup_in_tiles(reference_tiles: int, analysed_tiles: int) -> float:
    """Tiles of the reference run over tiles of this run, all its levels counted; 1 when both are empty."""
    return 1.0 if analysed_tiles == reference_tiles == 0 else reference_tiles / analysed_tiles


def tiles_against_reference(reference_tiles: int, analysed_tiles: int) -> tuple[float, str]:
    """How many tiles this run analysed against the reference run, as people say it.

    Returns
    -------
    tuple of float and str
        A number of at least 1 (infinite when the reference run has no tiles and this one has), and what it is times
        of: ``fewer tiles`` (2.02 times fewer tiles), or, where nothing was saved, ``as many tiles`` (1.33 times as many
        tiles).
    """
    speedup = speedup_in_tiles(reference_tiles, analysed_tiles)
    if speedup > 1:
        return speedup, "fewer tiles"
    return 1 / speedup if speedup else math.inf, "as many tiles"


def busiest_over_ideal(busy_seconds: Sequence[float]) -> float:
    """Busy time of the busiest rank over the mean of all: 1 is perfect balance; 1 when nobody worked."""
    total = sum(busy_seconds)
    return max(busy_seconds) * len(busy_seconds) / total if total > 0 else 1.0
