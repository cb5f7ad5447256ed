"""Windows at a stride over many slides, on paper: counted tile by tile, and added up by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.paper.slide_geometry import LevelGeometry, SlideGeometry
from bench.scale.stride_costs import (
    ADAPTIVE_BLOCK,
    SHARED,
    STRIDES,
    NetworkCosts,
    Share,
    StrideCosts,
    block_side,
    share_of,
)
from bench.scale.strides_on_paper import FDA, StrideWork, table, ways, with_shares, work_of
from pyramidai_mpi.pyramid.run_levels import stepped_levels
from tests.simulate.test_stored import stored

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600
COSTS = StrideCosts("a machine", "a slide", 0.0, (NetworkCosts("net", 1.0, {}),))
WORK = StrideWork(slides=2, tiles=36, blocks={16: 10, 64: 20})


def geometry_of(cells: list[tuple[int, int]]) -> SlideGeometry:
    n = len(cells)
    level = LevelGeometry(np.array(cells, np.uint32), np.full(n, -1), np.zeros(n, np.float32))
    return SlideGeometry("made", (level,))


def hours_of(work: StrideWork, costs: StrideCosts, opening_s: float = 0.0) -> dict[tuple[str, int], float]:
    return {(one.way, one.stride): one.hours for one in ways(work, costs, opening_s)}


def test_a_block_is_counted_once_when_any_tile_lies_in_it() -> None:
    rng = np.random.default_rng(0)
    slides = [
        [(int(col), int(row)) for col, row in np.unique(rng.integers(0, 20, (n, 2)), axis=0)] for n in (1, 30, 200)
    ]
    work = work_of([geometry_of(cells) for cells in slides])
    assert (work.slides, work.tiles) == (3, sum(map(len, slides)))
    for stride, found in work.blocks.items():
        side = block_side(stride) * stride
        expected = 0
        for cells in slides:
            covered = np.zeros((20 * 224, 20 * 224), bool)
            for col, row in cells:
                covered[row * 224 : (row + 1) * 224, col * 224 : (col + 1) * 224] = True
            starts = range(0, 20 * 224, side)
            expected += sum(bool(covered[y : y + side, x : x + side].any()) for y in starts for x in starts)
        assert found == expected


def test_strides_that_share_are_those_with_blocks_wider_than_a_tile() -> None:
    assert [stride for stride in STRIDES if block_side(stride) > 1] == list(SHARED)
    assert all(block_side(stride) * stride >= 224 for stride in SHARED)


def test_a_tile_has_the_windows_of_the_fdas() -> None:
    # 14 x 14 at stride 16, and one at 224
    assert WORK.windows(16) == 36 * 14 * 14
    assert WORK.windows(224) == 36
    # their upper bound on windows, from 27 280 groups of at most 400 patches
    assert FDA.windows == pytest.approx(27_280 * 400 * 196, rel=0.01)


def test_of_more_slides_there_is_as_much_a_slide() -> None:
    assert WORK.of_all(2) == WORK
    assert WORK.of_all(3) == StrideWork(3, 54, {16: 15, 64: 30})


def test_hours_are_sums_of_what_was_measured() -> None:
    assert hours_of(WORK, COSTS) == {("window", s): WORK.windows(s) / HOUR for s in (16, 64, 128, 224)}
    opened = hours_of(WORK, replace(COSTS, read_s=5.0), opening_s=7.0)
    assert opened["window", 224] == pytest.approx((2 * 7 + 36 * 5 + 36) / HOUR)
    passes = NetworkCosts("net", 1.0, {f"16 x {block_side(16)}": 11.0, f"16 x {ADAPTIVE_BLOCK}": 3.0})
    shared = hours_of(WORK, replace(COSTS, networks=(passes,)))
    assert shared["shared", 16] == pytest.approx(10 * 11 / HOUR)
    assert ("shared", 64) not in shared


def test_adaptive_ways_take_the_shares_that_were_seen() -> None:
    plain, by_pass = Share("a", 25, 100), Share("b", 2, 100, passes=50)
    passes = NetworkCosts("net", 1.0, {f"16 x {ADAPTIVE_BLOCK}": 3.0})
    found = hours_of(WORK, replace(COSTS, networks=(passes,), shares=(plain, by_pass)))
    n_windows = 36 * 196
    assert found["adaptive, a", 16] == pytest.approx(n_windows / 4 / HOUR)
    expected = n_windows * 0.02 + n_windows * 0.5 / ADAPTIVE_BLOCK**2 * 3
    assert found["adaptive-shared, b", 16] == pytest.approx(expected / HOUR)
    # a network that cannot share passes has no such way
    assert ("adaptive-shared, b", 16) not in hours_of(WORK, replace(COSTS, shares=(plain, by_pass)))
    assert with_shares(replace(COSTS, shares=(plain, by_pass)), [Share("a", 1, 2)]).shares == (
        by_pass,
        Share("a", 1, 2),
    )


def test_the_block_of_adaptive_passes_is_that_of_the_run() -> None:
    levels = stepped_levels(3, 224, 2, (16, 224), under_pyramid=False, cells=16)
    assert levels.each[0].block == ADAPTIVE_BLOCK


def test_the_table_has_the_published_hours_over_ours() -> None:
    rows = list(table(list(ways(WORK, COSTS, 0.0)), cores=10))
    hours = 36 * 196 / HOUR
    assert rows == [
        (
            "net", "window", *(f"{WORK.windows(s) / HOUR:.4g}" for s in (16, 64, 128, 224)),
            f"{133_034 / hours:.4g}", f"{hours / 10:.3g}",
        )
    ]  # fmt: skip


def test_costs_are_kept(tmp_path: Path) -> None:
    costs = replace(COSTS, shares=(Share("a", 1, 2, 3),))
    costs.save(tmp_path / "costs.json")
    assert StrideCosts.load(tmp_path / "costs.json") == costs
    assert json.loads((tmp_path / "costs.json").read_text())["networks"] == [asdict(COSTS.networks[0])]


def test_a_share_is_not_read_from_another_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not of a run with --stride-mode adaptive"):
        share_of("plain", [stored(tmp_path / "a.h5")])
