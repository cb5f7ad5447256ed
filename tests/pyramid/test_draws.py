"""Draws that go on where pixels refuse a cell: as many as are wanted, and each that passes as likely as any other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.base.types import index_of, tiles_at
from pyramidai_mpi.pyramid.cells import CellMarks, CellRule
from pyramidai_mpi.pyramid.draws import LOOKED_AT_WHOLE, Draw, drawing_order
from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.pyramid.tissue import TissueMap, mask_pixels_per_tile

COLUMNS = 10


def cells(n: int) -> np.ndarray:
    return np.stack([np.arange(n) % COLUMNS, np.arange(n) // COLUMNS], axis=1)


def number_of(index: np.ndarray) -> np.ndarray:
    return index[:, 1] * COLUMNS + index[:, 0]


def played(draw: Draw, passing: np.ndarray, rng: np.random.Generator | None = None) -> tuple[list[int], list[int]]:
    """Numbers of the cells that a draw takes, and of all that it looked at; `passing` is bool by number.

    In any order: cells wait in a heap of which one or another is done next, as on many ranks.
    """
    rng = rng or np.random.default_rng(0)
    waiting, seen = number_of(draw.first()).tolist(), []
    while waiting:
        number = waiting.pop(int(rng.integers(len(waiting))))
        seen.append(number)
        if not passing[number]:
            waiting += number_of(draw.followers(cells(len(passing))[[number]])).tolist()
    index = cells(len(passing))[seen]
    passes = passing[seen]
    needed = draw.settled(index, passes)
    return sorted(number_of(index[needed & passes]).tolist()), seen


@given(st.integers(1, 150), st.integers(1, 20), st.integers(0, 50), st.floats(0, 1))
def test_no_cell_is_looked_at_twice_and_all_that_are_wanted_are_taken_where_all_are_looked_at(n_cells, n, seed, share):
    passing = np.random.default_rng(seed).random(n_cells) < share
    draw = Draw.among(cells(n_cells), n, seed, "s", may_refuse=True)
    taken, seen = played(draw, passing)
    assert len(set(seen)) == len(seen)
    assert passing[taken].all()
    if n_cells <= LOOKED_AT_WHOLE * n:
        order = drawing_order(cells(n_cells), seed, "s")
        assert taken == sorted(order[passing[order]][:n].tolist())
    else:
        # of each chain the first that passes, found by walking along the order
        order = drawing_order(cells(n_cells), seed, "s")
        firsts = [next((c for c in order[place::n] if passing[c]), None) for place in range(n)]
        assert taken == sorted(int(c) for c in firsts if c is not None)


def test_it_does_not_matter_in_which_order_cells_are_looked_at():
    passing = np.random.default_rng(1).random(400) < 0.5
    draw = Draw.among(cells(400), 30, 3, "s", may_refuse=True)
    one, other = (played(draw, passing, np.random.default_rng(seed))[0] for seed in (1, 2))
    assert one == other
    assert len(one) == 30


def test_chains_look_at_few_more_than_are_taken():
    passing = np.random.default_rng(2).random(5000) < 0.8
    taken, seen = played(Draw.among(cells(5000), 200, 0, "s", may_refuse=True), passing)
    assert len(taken) == 200
    assert len(seen) < 300  # 250 expected


def test_where_nothing_can_be_refused_it_is_the_plain_draw():
    draw = Draw.among(cells(1000), 30, 7, "s")
    assert sorted(number_of(draw.first()).tolist()) == sorted(drawing_order(cells(1000), 7, "s")[:30].tolist())
    assert not len(draw.followers(cells(1000)))


def test_what_comes_after_the_last_that_is_wanted_was_not_needed():
    # ten cells of which all pass and five are wanted: the others are neither patches nor refused
    draw = Draw.among(cells(10), 5, 0, "s", may_refuse=True)
    assert draw.looks_at_all
    assert draw.settled(cells(10), np.ones(10, bool)).sum() == 5
    assert draw.settled(cells(10), np.zeros(10, bool)).all()


@pytest.mark.parametrize(("n_cells", "n"), [(60, 10), (100, 5)], ids=["all looked at", "chains"])
def test_every_cell_that_passes_is_taken_alike_over_many_seeds(n_cells, n):
    # cells that pass lie together, as white ones do on a slide
    passing = np.arange(n_cells) % 10 < 5
    n_seeds, counts = 3000, np.zeros(n_cells)
    for seed in range(n_seeds):
        taken, _ = played(Draw.among(cells(n_cells), n, seed, "slide", may_refuse=True), passing)
        counts[taken] += 1
    assert not counts[~passing].any()
    found, n_passing = counts[passing], int(passing.sum())
    expected = found.sum() / n_passing
    assert expected == pytest.approx(n_seeds * n / n_passing, rel=0.001)
    chi2 = ((found - expected) ** 2 / (expected * (1 - n / n_passing))).sum() * (n_passing - 1) / n_passing
    assert chi2 < {30: 59, 50: 85.4}[n_passing]  # 0.999 of chi squared is below, with one degree of freedom less


def rule_of(label: np.ndarray, n: int, **others) -> CellRule:
    rows, cols = label.shape
    grid = Grid.of_tiles(64 * cols, 64 * rows, 64, 2, 1, 1.0)
    pixels = mask_pixels_per_tile(grid)
    mask = np.ones((rows * pixels, cols * pixels), bool)
    marks = CellMarks(label.astype(np.float32), label.astype(np.int8), others.pop("wanted", None))
    return CellRule(TissueMap(grid, mask, pixels), 0.05, n, 0, "s", marks, **others)


def test_of_each_label_as_many_are_drawn_and_none_of_the_unknown():
    label = np.random.default_rng(0).choice([-1, 0, 1], (30, 40), p=[0.3, 0.6, 0.1])
    roots = rule_of(label, 50).roots()
    drawn = label[roots["row"], roots["col"]]
    assert [int((drawn == kind).sum()) for kind in (-1, 0, 1)] == [0, 50, 50]
    alone = rule_of(label, 50, only=0).roots()
    assert alone.tolist() == roots[drawn == 0].tolist()


def test_a_refused_cell_is_followed_by_one_of_its_own_label():
    label = np.random.default_rng(1).choice([0, 1], (40, 40))
    rule = rule_of(label, 20, may_refuse=True)
    followers = rule.followers(index_of(rule.roots()))
    assert np.bincount(label[followers["row"], followers["col"]]).tolist() == [20, 20]
    assert not {tuple(tile) for tile in followers.tolist()} & {tuple(tile) for tile in rule.roots().tolist()}


def test_only_wanted_places_are_drawn_from():
    wanted = np.zeros((10, 10), bool)
    wanted[3, 4] = wanted[7, 7] = True
    rule = rule_of(np.zeros((10, 10)), 5, wanted=wanted)
    assert rule.roots().tolist() == tiles_at(0, np.array([[4, 3], [7, 7]])).tolist()
    assert rule.candidates().all()


@pytest.mark.parametrize("there", ["", "tumor", "label", "wanted", "tumor label", "tumor label wanted"])
def test_marks_arrive_as_they_were_sent(there):
    rng = np.random.default_rng(0)
    layers = {
        "tumor": rng.random((5, 7)).astype(np.float32),
        "label": rng.integers(-1, 2, (5, 7)).astype(np.int8),
        "wanted": rng.random((5, 7)) < 0.5,
    }
    sent = CellMarks(**{name: layer for name, layer in layers.items() if name in there.split()})
    arrived = CellMarks.from_bytes(sent.to_bytes())
    for name in layers:
        np.testing.assert_array_equal(getattr(arrived, name), getattr(sent, name))


@pytest.mark.parametrize("cut", [1, 5, -1])
def test_marks_that_were_cut_are_refused(cut):
    sent = CellMarks(label=np.zeros((5, 7), np.int8)).to_bytes()
    with pytest.raises(ValueError):
        CellMarks.from_bytes(sent[:cut])
