"""The execution tree in canonical order, with its accounting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.base.types import LOOKED_AT, Decision, Mode, WindowState, index_keys, tile_keys
from pyramidai_mpi.pyramid.rule import zooms_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from pyramidai_mpi.base.types import PredictionArray, TileArray
    from pyramidai_mpi.pyramid.blocks import BlockRule
    from pyramidai_mpi.pyramid.grid import Grid
    from pyramidai_mpi.pyramid.rule import TileRule


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
    score, state
        Of levels whose tiles are blocks of windows: float32 (N, S, S), score of each cell of block and ring by row and
        column, NaN where there is none; uint8 (N, S, S), values of `WindowState`.
    """

    index: npt.NDArray[np.uint32]
    probability: npt.NDArray[np.float32]
    decision: npt.NDArray[np.uint8]
    parent: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32] | None = None
    state: npt.NDArray[np.uint8] | None = None

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
        """Unreadable tiles, and blocks some of whose windows are."""
        damaged = [
            int((level.state == WindowState.UNREADABLE).any(axis=(1, 2)).sum())
            if level.state is not None
            else int((level.decision == Decision.UNREADABLE).sum())
            for level in self.levels.values()
        ]
        return sum(damaged)

    @property
    def n_windows(self) -> int:
        """Windows that were looked at, unreadable ones included."""
        return sum(
            len(level) if level.state is None else int(np.isin(level.state, LOOKED_AT).sum())
            for level in self.levels.values()
        )


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
    expected = np.concatenate([rule.first_tiles(mode), rule.children(predictions[zooms_in(predictions, mode)])])
    return tree_of(predictions, rule.grid, expected, has_parents=mode is not Mode.REFERENCE)


def tree_of(
    predictions: PredictionArray, grid: Grid, expected: TileArray, *, has_parents: bool, blocks: BlockRule | None = None
) -> ExecutionTree:
    """The same of any analysis whose records are those of `prediction_dtype`, or of blocks of windows.

    Parameters
    ----------
    predictions
        In any order; of blocks with ``score`` and ``state`` (see `pyramid.blocks.BlockRule.record`).
    grid
        The slide's tiles.
    expected
        Tiles that there are to be, in any order.
    has_parents
        Whether tiles follow from those of the next coarser level.
    blocks
        By which rule there are blocks of windows; None where each tile is one.

    Raises
    ------
    InternalError
        As `build_tree`.
    """
    blank = ~np.isfinite(predictions["probability"]).all(axis=1)
    has_classes = predictions["probability"].shape[1] > 0  # an encoder's tiles have no probability to be without
    if has_classes and not np.array_equal(blank, predictions["decision"] == Decision.UNREADABLE):
        raise InternalError(
            "tiles without a probability are not those that are unreadable; this is a bug, please report it"
        )
    expected_keys, found_keys = tile_keys(expected), tile_keys(predictions)
    expected_keys.sort()
    order = np.argsort(found_keys)
    if not np.array_equal(expected_keys, found_keys[order]):
        missing = len(np.setdiff1d(expected_keys, found_keys))
        extra = len(np.setdiff1d(found_keys, expected_keys))
        twice = len(found_keys) - len(np.unique(found_keys))
        raise InternalError(
            f"the gathered tiles do not add up: {missing} missing, {extra} unexpected, {twice} twice; "
            "this is a bug, please report it"
        )
    del expected_keys, found_keys  # 16 bytes a tile, which is as much as there is of its record
    # levels follow each other in the order of keys, level 0 first
    ends = np.cumsum(np.bincount(predictions["level"], minlength=grid.n_levels)).tolist()
    levels: dict[int, TreeLevel] = {}
    for n in range(grid.n_levels - 1, -1, -1):
        at = order[ends[n - 1] if n else 0 : ends[n]]
        index = np.empty((len(at), 2), np.uint32)
        index[:, 0], index[:, 1] = predictions["col"][at], predictions["row"][at]
        parent = np.full(len(at), -1, np.int64)
        if n + 1 in levels and len(levels[n + 1]) and has_parents:
            parent = np.searchsorted(index_keys(levels[n + 1].index), index_keys(index // grid.factor(n + 1)))
        levels[n] = TreeLevel(
            index=index,
            probability=predictions["probability"][at],
            decision=predictions["decision"][at],
            parent=parent,
            **_cells(predictions, at, n, blocks),
        )
    return ExecutionTree(dict(sorted(levels.items())))


def _cells(
    predictions: PredictionArray, at: npt.NDArray[np.int64], level: int, blocks: BlockRule | None
) -> dict[str, npt.NDArray[Any]]:
    """Scores and states of the cells of a level's blocks; none where a tile is one window."""
    if blocks is None or level >= blocks.levels.n_blocks:
        return {}
    side = blocks.side(level)
    return {name: np.ascontiguousarray(predictions[name][:, :side, :side][at]) for name in ("score", "state")}


def canonical_rows(tiles: TileArray | PredictionArray) -> npt.NDArray[np.int64]:
    """Row that each tile of a whole tree gets in its level's table, int64 (N,)."""
    order = np.argsort(tile_keys(tiles))
    rows = np.empty(len(order), np.int64)
    rows[order] = np.arange(len(order))
    del order
    # levels follow each other in the order of keys, level 0 first
    counts = np.bincount(tiles["level"], minlength=1)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rows -= first[tiles["level"]]
    return rows
