"""The page of a Deep Zoom folder: it opens by a double click, and asks no server for anything."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.page import look_colours, page_of, score_colours
from pyramidai_mpi.export.tile_table import level_table
from pyramidai_mpi.pyramid.looked_at import warning_of
from pyramidai_mpi.store.results.tables import count_decisions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.export.picture import Picture

_VIEWER = "openseadragon"
PAGE_NAMES = (r"index\.html", rf"{_VIEWER}(/(openseadragon\.min\.js|[A-Z][A-Za-z0-9.-]*\.txt))?")
"""Regular expressions of the paths that the page adds to the folder."""


@dataclass(frozen=True)
class ZoomLayer:
    """A picture of the folder: its name there, its title for people, and the format of its tiles."""

    name: str
    title: str
    kind: str


def write_page(picture: Picture, folder: Path, layers: Sequence[ZoomLayer], tile_side: int) -> None:
    """Write ``index.html``, and OpenSeadragon with its licences beside it.

    Parameters
    ----------
    picture
        What the layers were drawn from.
    folder
        Folder that holds them.
    layers
        The first is what the others are laid over.
    tile_side
        Side of their tiles in pixels.

    Raises
    ------
    InputError
        When the result is damaged.
    OSError
        When they cannot be written.
    """
    shipped = resources.files("pyramidai_mpi.export") / "assets" / _VIEWER
    (folder / _VIEWER).mkdir()
    for file in shipped.iterdir():
        if file.name != "README.md":  # it is for whoever works on this program
            with file.open("rb") as source, (folder / _VIEWER / file.name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
    header = picture.header
    n_levels = len(header.levels)
    unreadable = [int(count_decisions(picture.file, n)[Decision.UNREADABLE]) for n in range(n_levels)]
    page = page_of(
        "deepzoom.html",
        header=header,
        warning=warning_of(header.n_tiles, unreadable),
        width=picture.size[0],
        height=picture.size[1],
        downsample=picture.downsample,
        tile_side=tile_side,
        layers=layers,
        tables=[level_table(picture.file, header, n) for n in range(n_levels)],
        score_ramp=score_colours(np.linspace(0, 1, 5).tolist()),
        look_colours=look_colours(n_levels),
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
