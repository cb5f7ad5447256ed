"""A cohort small enough for tests: a dozen lesions in little tissue."""

from __future__ import annotations

from bench.paper.geometry_cohort import Cohort, draw_cohort
from bench.paper.slide_geometry import TILE_PX, TissueModel, build_geometry, labelled_from_below


def small_cohort(slides: int = 12, free: int = 2) -> Cohort:
    tissue = TissueModel(mean_tiles=500, spread=0.2)
    geometries = []
    for k in range(slides):
        side = (2.3 + k) * TILE_PX
        ring = [[90_000.0, 90_000.0], [90_000.0 + side, 90_000.0], [90_000.0, 90_000.0 + side]]
        geometries.append(build_geometry(f"lesion {k}", {"positive": [ring]}, tissue))
    geometries += [build_geometry(f"free {k}", {}, tissue) for k in range(free)]
    return draw_cohort([labelled_from_below(slide) for slide in geometries], full_at=None)
