"""What patches of many slides take, on paper: counted tile by tile, and added up by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.paper.slide_geometry import LevelGeometry, SlideGeometry
from bench.scale.patch_costs import RAW_BYTES, PatchCosts
from bench.scale.patches_on_paper import FDA, PatchWork, ways, work_of
from bench.scale.scaled_cohort import SLIDE_GIGAPIXELS

COSTS = PatchCosts(
    machine="a machine",
    slide="a slide",
    n_patches=1,
    opening_s=36,
    tissue_s_per_gigapixel=0,
    cell_s=0,
    row_bytes=0,
    kept_tile_s=0,
    kept_tile_bytes=0,
    decoded_s=0,
    openslide_s=0,
    written_s=0,
)


def geometry_of(cells: list[tuple[int, int]]) -> SlideGeometry:
    n = len(cells)
    level = LevelGeometry(np.array(cells, np.uint32), np.full(n, -1), np.zeros(n, np.float32))
    return SlideGeometry("made", (level,))


def test_stored_tiles_are_counted_once_each_for_every_slide():
    rng = np.random.default_rng(0)
    slides = [
        [(int(col), int(row)) for col, row in np.unique(rng.integers(0, 30, (n, 2)), axis=0)] for n in (1, 40, 300)
    ]
    expected = 0
    for cells in slides:
        met = set()
        for col, row in cells:
            x, y = col * 224 - 112, row * 224 - 112
            across, down = (range(max(first, 0) // 512, (first + 447) // 512 + 1) for first in (x, y))
            met |= {(i, j) for i in across for j in down}
        expected += len(met)
    work = work_of([geometry_of(cells) for cells in slides])
    assert work == PatchWork(3, sum(map(len, slides)), expected)


def test_bytes_and_hours_are_sums_of_what_was_measured():
    work = PatchWork(slides=100, patches=3600, tiles=1000)
    found = {way.name: way for way in ways(work, COSTS)}
    assert {way.hours for way in found.values()} == {1}
    assert found["stored tiles"].n_bytes == found["no pixels"].n_bytes == 0
    assert found["raw"].n_bytes == 3600 * RAW_BYTES

    def changed(**costs):
        each = {way.name: way for way in ways(work, replace(COSTS, **costs))}
        assert each["raw"].n_bytes == 3600 * RAW_BYTES
        return [round(each[name].hours - 1, 9) for name in ("stored tiles", "no pixels", "raw")]

    assert changed(cell_s=1) == [1, 1, 1]
    assert changed(kept_tile_s=3.6) == [1, 0, 0]
    assert changed(decoded_s=2) == [0, 0, 2]
    assert changed(written_s=3) == [0, 0, 3]
    assert changed(openslide_s=5) == [0, 0, 0]
    assert changed(tissue_s_per_gigapixel=36 / SLIDE_GIGAPIXELS) == [1, 1, 1]
    each = {way.name: way for way in ways(work, replace(COSTS, row_bytes=10, kept_tile_bytes=7, openslide_s=5))}
    assert each["stored tiles"].n_bytes == 36_000 + 7000
    assert each["no pixels"].n_bytes == 36_000
    assert each["raw, decoded by OpenSlide"].hours == 6


def test_the_published_bytes_and_groups_are_of_as_many_patches():
    # the last group of each slide is half full on average
    assert FDA.patches == pytest.approx(FDA.groups * 400 - FDA.slides * 200, rel=0.001)
