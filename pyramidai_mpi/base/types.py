"""The words of the design as types: tiles, predictions, modes and decisions."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import numpy as np
import numpy.typing as npt

TILE_DTYPE = np.dtype([("level", "u1"), ("col", "<u4"), ("row", "<u4")])
"""One tile as a packed 9-byte record: analysis level (0 = finest), column and row in that level's tile grid."""

MOST_LEVELS = 16
"""Levels that a model can have: what four bits of a tile's key hold (see `tree`)."""

TileArray = npt.NDArray[np.void]
"""Array of `TILE_DTYPE` records."""

PredictionArray = npt.NDArray[np.void]
"""Array of `prediction_dtype(C)` records."""

RgbArray = npt.NDArray[np.uint8]
"""Pixels, shape (H, W, 3) or (B, H, W, 3), red, green, blue."""


class Mode(StrEnum):
    """Which tiles a run analyses."""

    PYRAMID = "pyramid"
    """The roots, and the children of every tile that the decision block zooms into."""
    REFERENCE = "reference"
    """All level-0 descendants of the roots and nothing else: what a program without a pyramid does."""
    EXHAUSTIVE = "exhaustive"
    """The roots and all their descendants at every level."""


class Decision(IntEnum):
    """Outcome of the decision block for one tile; the numbers are those of the result file."""

    STOP = 0
    ZOOM = 1
    """Zoom in; at level 0: positive."""
    UNREADABLE = 2
    """No probability could be had; above level 0 the children are analysed all the same."""


def prediction_dtype(n_classes: int) -> np.dtype[np.void]:
    """Record of one analysed tile.

    Parameters
    ----------
    n_classes
        Number of classes C of the model.

    Returns
    -------
    numpy.dtype
        Packed fields ``level`` (u1), ``col`` (u4), ``row`` (u4), ``decision`` (u1, see `Decision`) and
        ``probability`` (float32, shape (C,); NaN in every class where the tile is unreadable).
    """
    return np.dtype([*TILE_DTYPE.descr, ("decision", "u1"), ("probability", "<f4", (n_classes,))])


def tiles_at(level: int, index: npt.NDArray[np.integer]) -> TileArray:
    """Tile records from an (N, 2) array of (col, row) at one level."""
    tiles = np.empty(len(index), TILE_DTYPE)
    tiles["level"] = level
    tiles["col"] = index[:, 0]
    tiles["row"] = index[:, 1]
    return tiles


def tiles_only(records: npt.NDArray[np.void]) -> TileArray:
    """The tiles of records that say more of them."""
    tiles = np.empty(len(records), TILE_DTYPE)
    for name in TILE_DTYPE.names or ():
        tiles[name] = records[name]
    return tiles


def index_keys(index: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Column and row of tiles of one level, (N, 2), in one number whose order is row-major, int64 (N,)."""
    return np.asarray(index[:, 1].astype(np.int64) << 32 | index[:, 0])


def tile_keys(tiles: TileArray | PredictionArray) -> npt.NDArray[np.uint64]:
    """Level, row and column in one number whose order is the canonical one: by level, then row-major; uint64 (N,)."""
    # 4 bits of level and 30 bits each of row and column: 2**30 tiles of 224 px is more than any image
    level, row, col = (tiles[name].astype(np.uint64) for name in ("level", "row", "col"))
    return np.asarray((level << np.uint64(60)) | (row << np.uint64(30)) | col)
