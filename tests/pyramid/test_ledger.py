"""A ledger is complete exactly when all tiles of the tree have arrived, in whatever order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.base.types import Mode, prediction_dtype
from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.pyramid.ledger import TileLedger
from pyramidai_mpi.pyramid.rule import TileRule, zooms_in
from pyramidai_mpi.pyramid.tissue import TissueMap


def rule(seed: int) -> TileRule:
    """A slide of 5 x 4 lowest-level tiles of three levels, with random tissue."""
    grid = Grid.of_tiles(5 * 32, 4 * 32, 8, 2, 3, 1.0)
    mask = np.random.default_rng(seed).random((16, 20)) < 0.4
    mask[:4, :4] = False
    return TileRule(TissueMap(grid, mask, 1), 0.05)


def ledger_of(tiles_of: TileRule, mode: Mode) -> TileLedger:
    return TileLedger(tiles_of.grid, tiles_of.first_tiles(mode), lambda r: tiles_of.children(r[zooms_in(r, mode)]))


def whole_tree(tiles_of: TileRule, mode: Mode, seed: int) -> np.ndarray:
    """All predictions of a run that decides at random."""
    rng = np.random.default_rng(seed)
    found, frontier = [], tiles_of.first_tiles(mode)
    while len(frontier):
        predictions = np.zeros(len(frontier), prediction_dtype(2))
        for name in ("level", "col", "row"):
            predictions[name] = frontier[name]
        predictions["decision"] = rng.integers(0, 3, len(frontier))
        found.append(predictions)
        frontier = frontier[:0] if mode is Mode.REFERENCE else tiles_of.children(frontier[zooms_in(predictions, mode)])
    return np.concatenate([np.zeros(0, prediction_dtype(2)), *found])


@given(st.integers(0, 1000), st.sampled_from(list(Mode)), st.integers(1, 7))
def test_it_is_complete_with_the_last_tile_and_not_before(seed: int, mode: Mode, batch: int) -> None:
    tiles_of = rule(seed)
    tree = whole_tree(tiles_of, mode, seed)
    ledger = ledger_of(tiles_of, mode)
    shuffled = np.random.default_rng(seed + 1).permutation(tree)
    for start in range(0, len(shuffled), batch):
        assert not ledger.complete
        ledger.record(shuffled[start : start + batch])
    assert ledger.complete


def test_without_tissue_it_is_complete_from_the_start() -> None:
    grid = Grid.of_tiles(64, 64, 8, 2, 3, 1.0)
    empty = TileRule(TissueMap(grid, np.zeros((8, 8), bool), 1), 0.05)
    assert ledger_of(empty, Mode.PYRAMID).complete


def test_a_child_that_arrives_before_its_parent_does_not_make_up_for_it() -> None:
    # one root, one child, two grandchildren: after root and one grandchild, two tiles were heard of and two received
    grid = Grid.of_tiles(32, 32, 8, 2, 3, 1.0)
    mask = np.zeros((4, 4), bool)
    mask[0, :2] = True
    tiles_of = TileRule(TissueMap(grid, mask, 1), 0.0)
    tree = whole_tree(tiles_of, Mode.EXHAUSTIVE, 0)
    assert [int(n) for n in tree["level"]] == [2, 1, 0, 0]
    ledger = ledger_of(tiles_of, Mode.EXHAUSTIVE)
    ledger.record(tree[[0, 2]])
    assert not ledger.complete
    ledger.record(tree[[1]])
    assert not ledger.complete
    ledger.record(tree[[3]])
    assert ledger.complete


@pytest.mark.parametrize("mode", list(Mode))
def test_a_tile_nobody_expects_keeps_it_open(mode: Mode) -> None:
    tiles_of = rule(3)
    tree = whole_tree(tiles_of, mode, 3)
    level = 0 if mode is Mode.REFERENCE else 2
    expected = {(int(t["col"]), int(t["row"])) for t in tiles_of.first_tiles(mode)}
    cols, rows = tiles_of.grid.shape(level)
    col, row = next((c, r) for r in range(rows) for c in range(cols) if (c, r) not in expected)
    stranger = tree[:1].copy()
    stranger["level"], stranger["col"], stranger["row"], stranger["decision"] = level, col, row, 0
    ledger = ledger_of(tiles_of, mode)
    ledger.record(np.concatenate([tree, stranger]))
    assert not ledger.complete
