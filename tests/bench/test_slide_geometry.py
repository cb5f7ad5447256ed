"""Slides without pixels: what the outlines and the tissue come to, checked with shapely and by counting."""

from __future__ import annotations

import numpy as np
import pytest
from shapely.geometry import Polygon, box

from bench.paper.slide_geometry import CELLS, LEVELS, TILE_PX, TissueModel, build_geometry, labelled_from_below

TISSUE = TissueModel(mean_tiles=900)


def square(col: float, row: float, side: float) -> list[list[float]]:
    corners = [(col, row), (col + side, row), (col + side, row + side), (col, row + side)]
    return [[x * TILE_PX, y * TILE_PX] for x, y in corners]


def positives(geometry, level: int) -> set[tuple[int, int]]:
    tiles = geometry.levels[level]
    return {(col, row) for col, row in tiles.index[tiles.tumor >= 0.5].tolist()}


def test_a_square_lesion_on_the_grid_of_roots_is_positive_at_every_level_and_nowhere_else() -> None:
    geometry = build_geometry("square", {"positive": [square(400, 640, 8)]}, TISSUE)
    for level in range(LEVELS):
        side = 8 // 2**level
        first_col, first_row = 400 // 2**level, 640 // 2**level
        assert positives(geometry, level) == {(first_col + c, first_row + r) for c in range(side) for r in range(side)}
    assert all(tiles.tumor.max() == 1 for tiles in geometry.levels)


def test_a_hole_is_no_tumour() -> None:
    rings = {"positive": [square(400, 640, 8)], "negative": [square(402, 642, 2)]}
    solid = positives(build_geometry("hole", {"positive": rings["positive"]}, TISSUE), 0)
    assert solid - positives(build_geometry("hole", rings, TISSUE), 0) == {
        (402, 642), (403, 642), (402, 643), (403, 643)
    }  # fmt: skip


def test_tumour_shares_of_tiles_full_of_tissue_are_shapelys_areas() -> None:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radius = 5 + 1.5 * np.cos(3 * angle)
    ring = np.stack([400 + radius * np.cos(angle), 640 + radius * np.sin(angle)], axis=1)
    lesion = Polygon(ring)
    geometry = build_geometry("lobed", {"positive": [(ring * TILE_PX).tolist()]}, TISSUE)
    for level, tiles in enumerate(geometry.levels):
        side = 2**level
        found = dict(zip(map(tuple, tiles.index.tolist()), tiles.tumor.tolist(), strict=True))
        crossed = 0
        # the lesion lies deep in tissue, so its tiles are full of it
        for (col, row), share in found.items():
            cut = lesion.intersection(box(col * side, row * side, (col + 1) * side, (row + 1) * side))
            # a border of length L through n cells a tile side misjudges at most the cells that it passes
            passed = cut.boundary.length * CELLS * 1.5 + 2 if cut.area else 0
            crossed += 0 < cut.area < side**2
            assert abs(share - cut.area / side**2) <= passed / (CELLS * side) ** 2
        assert crossed > 5
    area = sum(tiles.tumor.sum() for tiles in geometry.levels[:1])
    assert area == pytest.approx(lesion.area, rel=0.01)


def test_labelled_from_below_a_lesion_of_one_tile_is_positive_at_every_level() -> None:
    geometry = build_geometry("tiny", {"positive": [square(402, 641, 1)]}, TISSUE)
    assert [positives(geometry, level) for level in range(LEVELS)] == [{(402, 641)}, set(), set()]
    found = labelled_from_below(geometry)
    assert [positives(found, level) for level in range(LEVELS)] == [{(402, 641)}, {(201, 320)}, {(100, 160)}]


def test_every_tile_lies_under_its_parent_and_every_parent_has_a_child() -> None:
    geometry = build_geometry("free", {}, TISSUE)
    for tiles, above in zip(geometry.levels[:-1], geometry.levels[1:], strict=True):
        assert np.array_equal(tiles.index // 2, above.index[tiles.parent])
        assert set(tiles.parent.tolist()) == set(range(len(above.index)))
    assert (geometry.levels[-1].parent == -1).all()


def test_tiles_are_in_row_major_order_and_none_is_there_twice() -> None:
    geometry = build_geometry("rows", {"positive": [square(10.3, 20.7, 3)]}, TISSUE)
    for tiles in geometry.levels:
        keys = tiles.index[:, 1].astype(np.int64) * 2**20 + tiles.index[:, 0]
        assert (np.diff(keys) > 0).all()


def test_a_slide_without_outlines_has_no_tumour_and_as_much_tissue_as_was_drawn() -> None:
    model = TissueModel(mean_tiles=2500, spread=0.0)
    tiles = build_geometry("free", {}, model).levels[0]
    assert not tiles.tumor.any()
    # tiles that the border passes through are whole tiles of the tree
    assert 2500 <= len(tiles.index) < 2500 * 1.3


def test_lesions_never_fill_more_of_the_tissue_than_the_model_allows() -> None:
    geometry = build_geometry("large", {"positive": [square(100, 100, 60)]}, TissueModel(mean_tiles=100, spread=0))
    assert 0.7 < geometry.levels[0].tumor.mean() <= 0.8


def test_the_areas_drawn_have_the_mean_of_the_model() -> None:
    rng = np.random.default_rng(0)
    model = TissueModel(mean_tiles=1000, spread=0.5)
    areas = np.array([model.draw_area(rng, 0) for _ in range(20_000)])
    assert areas.mean() == pytest.approx(1000, rel=4 * areas.std() / areas.mean() / np.sqrt(len(areas)))
    assert np.log(areas).std() == pytest.approx(0.5, rel=0.02)


def test_seeded_means_deterministic() -> None:
    rings = {"positive": [square(400, 640, 5)]}
    one, two, other = (build_geometry("same", rings, TISSUE, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.index, b.index) for a, b in zip(one.levels, two.levels, strict=True))
    assert not np.array_equal(one.levels[0].index, other.levels[0].index)
