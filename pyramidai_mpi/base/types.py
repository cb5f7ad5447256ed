"""The words of the design as types: tiles, predictions, modes and decisions."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from pyramidai_mpi.base.mode import Mode as Mode  # the other words, beside which it stands in results

TILE_DTYPE = np.dtype([("level", "u1"), ("col", "<u4"), ("row", "<u4")])
"""One tile as a packed 9-byte record: analysis level (0 = finest), column and row in that level's tile grid."""

FAILED_DTYPE = np.dtype([*TILE_DTYPE.descr, ("reason", "S200")])
"""One unreadable tile: level, column, row and why (UTF-8, cut at 200 bytes)."""

MOST_LEVELS = 16
"""Levels that a model can have: what four bits of a tile's key hold (see `tree`)."""

TileArray = npt.NDArray[np.void]
"""Array of `TILE_DTYPE` records."""

KEPT_BYTES = "kept_bytes"
"""Field of a record that says how many bytes an analysis keeps of its tile, beside the record."""

PredictionArray = npt.NDArray[np.void]
"""Array of `prediction_dtype(C)` records."""

RgbArray = npt.NDArray[np.uint8]
"""Pixels, shape (H, W, 3) or (B, H, W, 3), red, green, blue."""


class Decision(IntEnum):
    """Outcome of the decision block for one tile; the numbers are those of the result file."""

    STOP = 0
    ZOOM = 1
    """Zoom in; at level 0: positive."""
    UNREADABLE = 2
    """No probability could be had; above level 0 the children are analysed all the same."""


class WindowState(IntEnum):
    """What is known of a cell of a block; the numbers are those of the result file."""

    NOTHING = 0
    """Outside the slide, or without tissue: not looked at."""
    LOOKED = 1
    """Its window was looked at."""
    SAME = 2
    """Its window is that of the coarser cell over it, whose score it has."""
    COARSER = 3
    """Not looked at: the score is that of the coarser cell over it, which was not to be refined."""
    UNREADABLE = 4
    """No score could be had."""


OWN_SCORE = (WindowState.LOOKED, WindowState.SAME)
"""States of cells whose score is that of their own window."""
ANY_SCORE = (*OWN_SCORE, WindowState.COARSER)
"""States of cells that have a score."""
LOOKED_AT = (WindowState.LOOKED, WindowState.UNREADABLE)
"""States of cells that cost a window of their level."""


def outcome_names(level: int) -> tuple[str, str, str]:
    """What each decision at a level means, in words for people, indexed by `Decision`."""
    return ("stopped", "zoomed into", "unreadable") if level else ("negative", "positive", "unreadable")


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


def kept_lengths(records: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """How many bytes are kept of the tile of each record, int64 (n,); 0 where the records do not say."""
    if KEPT_BYTES not in (records.dtype.names or ()):
        return np.zeros(len(records), np.int64)
    return np.asarray(records[KEPT_BYTES].astype(np.int64))


def index_of(tiles: npt.NDArray[np.void]) -> npt.NDArray[np.uint32]:
    """Column and row of tiles, uint32 (N, 2)."""
    return np.stack([tiles["col"], tiles["row"]], axis=1)


def index_keys(index: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Column and row of tiles of one level, (N, 2), in one number whose order is row-major, int64 (N,)."""
    keys = index[:, 1].astype(np.int64)
    keys <<= 32
    keys |= index[:, 0]
    return keys


def tile_keys(tiles: TileArray | PredictionArray) -> npt.NDArray[np.uint64]:
    """Level, row and column in one number whose order is the canonical one: by level, then row-major; uint64 (N,)."""
    # 4 bits of level and 30 bits each of row and column: 2**30 tiles of 224 px is more than any image
    keys = tiles["level"].astype(np.uint64)
    for name in ("row", "col"):  # in place: of millions of tiles, what is in between would be most of the memory
        keys <<= 30
        keys |= tiles[name]
    return keys
