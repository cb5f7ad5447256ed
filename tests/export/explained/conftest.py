"""Explained tiles of the lossless slide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyramidai_mpi.slides.identity import quickhash
from tests.explained import explained_tiles, explanation_of, write_explained

SIZE = (1024, 768)


@pytest.fixture(scope="session")
def explained_slide(lossless_slide):
    """Fourteen tiles of 32 px in two clusters, one unreadable, by a demonstration model; signed maps of 8 x 8."""
    places = [(col, row) for row in (2, 3) for col in range(4, 9)]
    places += [(20, 15), (21, 15), (21, 16), (31, 23)]
    tiles = explained_tiles(np.array(places), map_side=8, unreadable=(6,), signed=True)
    made = explanation_of(tiles, l0_size=SIZE)
    return replace(
        made,
        slide=replace(made.slide, name="<b>a & b</b>.tif", quickhash=quickhash(lossless_slide), l0_bounds=(16, 24)),
        model=replace(made.model, intended_use="demonstration"),
    )


@pytest.fixture(scope="session")
def explained_path(explained_slide, tmp_path_factory):
    return write_explained(tmp_path_factory.mktemp("explained") / "slide.explained.h5", explained_slide)
