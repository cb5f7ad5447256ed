"""Outlines for the page to draw: positive regions, and what pathologists drew."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.export.cells import is_dense
from pyramidai_mpi.export.outlines import find_regions

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from pyramidai_mpi.store.results.tables import Header, ResultFile
    from pyramidai_mpi.truth.outlines import OutlineFile

    Rings = tuple[npt.NDArray[np.float64], ...]

MOST_SHAPES = 5000
"""Outlines of a kind that the page is given; the largest regions, the first annotations."""
_MOST_POINTS = 2_000_000
_MOST_NAME = 80


@dataclass(frozen=True)
class Shapes:
    """Outlines of one kind.

    Attributes
    ----------
    rings
        For each outline its name and its rings, float64 (N, 2) in level-0 pixels.
    n_left_out
        How many there are beyond what is drawn.
    """

    rings: tuple[tuple[str, Rings], ...]
    n_left_out: int = 0

    def json(self) -> str:
        """As the page takes it: names, and rings as flat lists x, y, x, y, ... to a tenth of a pixel."""
        shapes = [
            {"name": name, "rings": [np.round(ring, 1).ravel().tolist() for ring in rings]}
            for name, rings in self.rings
        ]
        return json.dumps({"shapes": shapes, "leftOut": self.n_left_out}, allow_nan=False)


def positive_regions(file: ResultFile, header: Header) -> Shapes:
    """The outlines of `export.outlines`, the largest regions first.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    regions, noun = find_regions(file, header), "cells" if is_dense(header) else "tiles"
    drawn = [
        (f"{region.n_tiles} {noun}, at most {region.max_probability:.3f}", region.rings)
        for region in islice(regions, MOST_SHAPES)
    ]
    return _bounded(drawn, sum(1 for _ in regions))


def drawn_outlines(found: OutlineFile) -> Shapes:
    """Outlines of a file in its order, by class."""
    drawn = [(one.name[:_MOST_NAME], (one.shell, *one.holes)) for one in found.outlines[:MOST_SHAPES]]
    return _bounded(drawn, len(found.outlines) - len(drawn))


def _bounded(shapes: Iterable[tuple[str, Rings]], n_left_out: int) -> Shapes:
    """No more points than a browser draws with ease."""
    kept, left = [], _MOST_POINTS
    for name, rings in shapes:
        left -= sum(len(ring) for ring in rings)
        if left < 0:
            n_left_out += 1
        else:
            kept.append((name, rings))
    return Shapes(tuple(kept), n_left_out)
