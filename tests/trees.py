"""Tile rules over drawn masks, and complete runs over them played without pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import Decision, Mode, prediction_dtype
from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap

if TYPE_CHECKING:
    from collections.abc import Callable

TILE, MASK_PER_TILE = 64, 2


def rule_of(mask: np.ndarray, *, n_levels: int = 3, f: int = 2, min_root_share: float = 0.05) -> TileRule:
    """A rule over a mask of `MASK_PER_TILE` pixels a level-0 tile; the slide ends where the mask ends."""
    side = TILE // MASK_PER_TILE
    grid = Grid.of_tiles(mask.shape[1] * side, mask.shape[0] * side, TILE, f, n_levels, 1.0)
    return TileRule(TissueMap(grid, mask, MASK_PER_TILE), min_root_share)


def tissue_in(mask: np.ndarray, level: int, col: int, row: int, f: int = 2) -> int:
    """Mask pixels of tissue in one tile, counted by slicing."""
    return int(part_of(mask, level, col, row, f).sum())


def part_of(mask: np.ndarray, level: int, col: int, row: int, f: int = 2) -> np.ndarray:
    """The mask's pixels in one tile, those inside the slide."""
    side = MASK_PER_TILE * f**level
    return mask[row * side : (row + 1) * side, col * side : (col + 1) * side]


def played(
    rule: TileRule, decision_of: Callable[[int, int, int], Decision], mode: Mode = Mode.PYRAMID, seed: int = 0
) -> np.ndarray:
    """Predictions of a run in which the tile (level, col, row) is decided by a function, in shuffled order.

    Walks the tree with plain tuples; whether a tile exists is counted on the mask.
    """
    f, mask, lowest = rule.grid.span(1), rule.tissue.mask, rule.grid.n_levels - 1
    side = MASK_PER_TILE * f**lowest
    cols, rows = -(-mask.shape[1] // side), -(-mask.shape[0] // side)
    roots = [
        (lowest, c, r)
        for r in range(rows)
        for c in range(cols)
        if (part := part_of(mask, lowest, c, r, f)).any() and part.mean() >= rule.min_root_share
    ]
    done, waiting = [], list(roots)
    while waiting:
        tile = waiting.pop()
        level, c, r = tile
        decision = decision_of(*tile)
        if mode is not Mode.REFERENCE or level == 0:
            done.append((*tile, decision))
        if level and (mode is not Mode.PYRAMID or decision != Decision.STOP):
            waiting += [
                (level - 1, f * c + i, f * r + j)
                for j in range(f)
                for i in range(f)
                if tissue_in(mask, level - 1, f * c + i, f * r + j, f)
            ]
    predictions = np.zeros(len(done), prediction_dtype(2))
    for position, (level, c, r, decision) in enumerate(done):
        score = {Decision.STOP: 0.1, Decision.ZOOM: 0.9, Decision.UNREADABLE: np.nan}[decision]
        predictions[position] = (level, c, r, decision, (1 - score, score + c / 1024))
    np.random.default_rng(seed).shuffle(predictions)
    return predictions
