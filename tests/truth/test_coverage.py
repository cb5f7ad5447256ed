"""The share of a cell that lies in an area is shapely's intersection with the cell."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidai_mpi.truth.coverage import UNIT, cover_rings
from pyramidai_mpi.truth.geometry import TumorArea


def by_shapely(area, step, shape):
    cells = [
        [shapely.box(c * step, r * step, (c + 1) * step, (r + 1) * step) for c in range(shape[1])]
        for r in range(shape[0])
    ]
    return np.array([[area.intersection(cell).area / step**2 for cell in row] for row in cells])


def covered(area, step, shape):
    parts = [area] if isinstance(area, shapely.Polygon) else area.geoms
    whole = TumorArea(shapely.MultiPolygon([part for part in parts if isinstance(part, shapely.Polygon)]))
    return cover_rings(whole.rings(), step, shape)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([7.0, 32.0, 10.3]))
def test_any_polygons_with_holes_cover_each_cell_as_shapely_says(seed, step) -> None:
    rng = np.random.default_rng(seed)
    shells = [shapely.Point(*rng.uniform(10, 60, 2)).buffer(rng.uniform(2, 25), quad_segs=3) for _ in range(4)]
    holes = [shapely.Point(*rng.uniform(10, 60, 2)).buffer(rng.uniform(1, 9), quad_segs=2) for _ in range(3)]
    area = shapely.union_all(shells).difference(shapely.union_all(holes)).intersection(shapely.box(0, 0, 70, 70))
    shape = (int(np.ceil(70 / step)), int(np.ceil(70 / step)))
    np.testing.assert_allclose(covered(area, step, shape) / UNIT, by_shapely(area, step, shape), atol=1e-6)


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0, 4.0])
def test_borders_on_grid_lines_give_whole_cells_exactly(step) -> None:
    area = shapely.box(0, 0, 8, 8).difference(shapely.box(4, 4, 8, 8))
    cells = covered(area, step, (int(8 / step), int(8 / step)))
    half = len(cells) // 2
    expected = np.full(cells.shape, UNIT)
    expected[half:, half:] = 0
    assert (cells == expected).all()


def test_no_area_covers_nothing() -> None:
    assert not cover_rings([], 1.0, (3, 4)).any()
