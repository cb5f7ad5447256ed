"""The execution tree: which tiles it may hold, and the finished tree in canonical order with its accounting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.errors import InternalError
from pyramidai_mpi.types import TILE_DTYPE, Decision, Mode, tiles_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from pyramidai_mpi.grid import Grid
    from pyramidai_mpi.tissue import TissueMap
    from pyramidai_mpi.types import PredictionArray, TileArray


@dataclass(frozen=True)
class TileRule:
    """Which tiles exist: the rule that roots, children and the reference run share.

    Attributes
    ----------
    tissue
        Tissue of every tile.
    min_root_share
        A lowest-level tile is a root when its tissue share is at least this, and above 0.
    """

    tissue: TissueMap
    min_root_share: float

    @property
    def grid(self) -> Grid:
        """Tile geometry."""
        return self.tissue.grid

    def root_map(self) -> npt.NDArray[np.bool_]:
        """Roots as bool (rows, cols) of the lowest level."""
        lowest = self.grid.n_levels - 1
        return np.asarray((self.tissue.share(lowest) >= self.min_root_share) & (self.tissue.counts[lowest] > 0))

    def roots(self) -> TileArray:
        """All roots in row-major order."""
        return tiles_at(self.grid.n_levels - 1, np.argwhere(self.root_map())[:, ::-1])

    def children(self, tiles: TileArray) -> TileArray:
        """All existing children of the given tiles; tiles of level 0 have none."""
        found = [np.empty(0, TILE_DTYPE)]
        for level in np.unique(tiles["level"]):
            if level == 0:
                continue
            parents = tiles[tiles["level"] == level]
            index = self.grid.t_children(int(level), np.stack([parents["col"], parents["row"]], axis=1))
            holds_tissue = self.tissue.counts[level - 1][index[:, 1], index[:, 0]] > 0
            found.append(tiles_at(level - 1, index[holds_tissue]))
        return np.concatenate(found)

    def reference_tiles(self) -> TileArray:
        """All level-0 descendants of the roots, in row-major order."""
        present = self.root_map()
        for level in range(self.grid.n_levels - 2, -1, -1):
            cols, rows = self.grid.shape(level)
            f = self.grid.scale_factor
            under = present.repeat(f, axis=0).repeat(f, axis=1)[:rows, :cols]
            present = under & (self.tissue.counts[level] > 0)
        return tiles_at(0, np.argwhere(present)[:, ::-1])

    def first_tiles(self, mode: Mode) -> TileArray:
        """What a run of this mode begins with: its roots, or the reference tiles."""
        return self.reference_tiles() if mode is Mode.REFERENCE else self.roots()


def zooms_in(predictions: PredictionArray, mode: Mode) -> npt.NDArray[np.bool_]:
    """Which analysed tiles have their children analysed too, bool (N,)."""
    if mode is Mode.EXHAUSTIVE:
        return np.asarray(predictions["level"] > 0)
    return np.asarray((predictions["level"] > 0) & (predictions["decision"] != Decision.STOP))


@dataclass(frozen=True)
class Resumption:
    """Where a run goes on from.

    Attributes
    ----------
    kept
        bool (N,): the predictions that belong to the tree, each tile once.
    frontier
        Tiles that are known to belong to it and not analysed yet.
    """

    kept: npt.NDArray[np.bool_]
    frontier: TileArray


def find_frontier(predictions: PredictionArray, rule: TileRule, mode: Mode) -> Resumption:
    """Find what is left to do from what a run has done: roots and children of zoomed tiles, minus what is done.

    A tile counts only when it is a root or its parent counts: a prediction may have outlived that of its parent on
    another host, and its turn then comes again. Of a tile that is there twice, the later record counts.

    Parameters
    ----------
    predictions
        Records of `prediction_dtype` (N,), oldest first.
    """
    keys = _keys(predictions)
    kept = np.zeros(len(predictions), bool)
    frontier = [np.empty(0, TILE_DTYPE)]
    expected = rule.first_tiles(mode)
    for _ in range(rule.grid.n_levels):
        expected_keys = _keys(expected)
        # of equal keys the last: the first in the reversed order
        found, last = np.unique(keys[::-1], return_index=True)
        chosen = (len(keys) - 1 - last)[np.isin(found, expected_keys)]
        kept[chosen] = True
        frontier.append(expected[~np.isin(expected_keys, keys[chosen])])
        done = predictions[chosen]
        expected = rule.children(done[zooms_in(done, mode)])
    return Resumption(kept, np.concatenate(frontier))


@dataclass(frozen=True)
class TreeLevel:
    """The analysed tiles of one level in row-major order.

    Attributes
    ----------
    index
        uint32 (N, 2): col, row.
    probability
        float32 (N, C).
    decision
        uint8 (N,), values of `Decision`.
    parent
        int64 (N,): row in the next coarser level, -1 where there is none.
    """

    index: npt.NDArray[np.uint32]
    probability: npt.NDArray[np.float32]
    decision: npt.NDArray[np.uint8]
    parent: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class ExecutionTree:
    """All analysed tiles of a slide, by level."""

    levels: Mapping[int, TreeLevel]

    def count(self, decision: Decision) -> dict[int, int]:
        """Tiles per level with this decision."""
        return {n: int((level.decision == decision).sum()) for n, level in self.levels.items()}

    @property
    def n_tiles(self) -> int:
        """Analysed tiles, unreadable ones included."""
        return sum(len(level) for level in self.levels.values())

    @property
    def n_failed(self) -> int:
        """Unreadable tiles."""
        return sum(self.count(Decision.UNREADABLE).values())


def build_tree(predictions: PredictionArray, rule: TileRule, mode: Mode) -> ExecutionTree:
    """Put predictions in canonical order and check that they account for every tile, none twice.

    Parameters
    ----------
    predictions
        Records of `prediction_dtype` in any order, from all ranks.
    rule
        Which tiles exist.
    mode
        The run's mode.

    Raises
    ------
    InternalError
        When a root or a child of a zoomed tile is missing, a tile is there twice, one is there without reason, or one
        has no probability without being unreadable.
    """
    blank = ~np.isfinite(predictions["probability"]).all(axis=1)
    if not np.array_equal(blank, predictions["decision"] == Decision.UNREADABLE):
        raise InternalError(
            "tiles without a probability are not those that are unreadable; this is a bug, please report it"
        )
    expected = np.concatenate([rule.first_tiles(mode), rule.children(predictions[zooms_in(predictions, mode)])])
    expected_keys, found_keys = np.sort(_keys(expected)), _keys(predictions)
    order = np.argsort(found_keys)
    if not np.array_equal(expected_keys, found_keys[order]):
        missing = len(np.setdiff1d(expected_keys, found_keys))
        extra = len(np.setdiff1d(found_keys, expected_keys))
        twice = len(found_keys) - len(np.unique(found_keys))
        raise InternalError(
            f"the gathered tiles do not add up: {missing} missing, {extra} unexpected, {twice} twice; "
            "this is a bug, please report it"
        )
    ordered = predictions[order]
    f = rule.grid.scale_factor
    levels: dict[int, TreeLevel] = {}
    for n in range(rule.grid.n_levels - 1, -1, -1):
        rows = ordered[ordered["level"] == n]
        parent = np.full(len(rows), -1, np.int64)
        if n + 1 in levels and len(levels[n + 1]) and mode is not Mode.REFERENCE:
            above = _keys(tiles_at(n + 1, levels[n + 1].index))
            own = tiles_at(n + 1, np.stack([rows["col"] // f, rows["row"] // f], axis=1))
            parent = np.searchsorted(above, _keys(own)).astype(np.int64)
        levels[n] = TreeLevel(
            index=np.stack([rows["col"], rows["row"]], axis=1).astype(np.uint32),
            probability=np.ascontiguousarray(rows["probability"]),
            decision=rows["decision"].copy(),
            parent=parent,
        )
    return ExecutionTree(dict(sorted(levels.items())))


def canonical_rows(tiles: TileArray | PredictionArray) -> npt.NDArray[np.int64]:
    """Row that each tile of a whole tree gets in its level's table, int64 (N,)."""
    order = np.argsort(_keys(tiles))
    rows = np.empty(len(order), np.int64)
    rows[order] = np.arange(len(order))
    # levels follow each other in the order of keys, level 0 first
    counts = np.bincount(tiles["level"], minlength=1)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.asarray(rows - first[tiles["level"]])


def _keys(tiles: TileArray | PredictionArray) -> npt.NDArray[np.uint64]:
    """Level, row and column in one number whose order is the canonical (row-major) one."""
    # 4 bits of level and 30 bits each of row and column: 2**30 tiles of 224 px is more than any image
    level, row, col = (tiles[name].astype(np.uint64) for name in ("level", "row", "col"))
    return np.asarray((level << np.uint64(60)) | (row << np.uint64(30)) | col)
