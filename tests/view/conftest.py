"""A result of the lossless slide, opened and served."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.view.opening import open_view
from pyramidai_mpi.view.pages import Pages
from pyramidai_mpi.view.server import ViewServer
from tests.results import result_of, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyramidai_mpi.view.opening import View

HOSTILE = "<img src=x onerror=document.title='run'>.tif"


@contextmanager
def serving(view: View) -> Iterator[ViewServer]:
    """A server of a view, in a thread."""
    with ViewServer(Pages(view)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def lymph_node(real_slides, tmp_path_factory):
    """A made result of a real slide, and the slide."""
    slide = real_slides / "insidious-lymph-node-metastasis-HE.tif"
    size = (31544, 17602)
    mask = np.zeros((551, 986), bool)
    mask[200:260, 160:260] = True
    made = result_of(mask)
    grid = Grid.of_tiles(*size, 64, 2, 3, 1.0)
    levels = tuple(replace(one, level_dim=grid.level_dimensions(n)) for n, one in enumerate(made.levels))
    record = replace(made.slide, name=slide.name, l0_size=size, quickhash=quickhash(slide))
    named = replace(made, slide=record, levels=levels)
    return write_file(tmp_path_factory.mktemp("real") / "node.h5", named), slide


@pytest.fixture(scope="session")
def made(lossless_slide):
    """A result of the lossless slide (1024 x 768), tissue in most of it."""
    mask = np.ones((24, 32), bool)
    mask[:, 26:] = False
    made = result_of(mask)
    return replace(made, slide=replace(made.slide, name=lossless_slide.name, quickhash=quickhash(lossless_slide)))


@pytest.fixture(scope="session")
def result(made, lossless_slide):
    """Its file, beside the slide."""
    return write_file(lossless_slide.with_name("view.h5"), made)


@pytest.fixture(scope="module")
def view(result):
    with open_view(result) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(view):
    with serving(view) as running:
        yield running
