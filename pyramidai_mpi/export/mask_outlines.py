"""Outlines of a slide's mask for QuPath and others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.export.features import POSITIVE, classification, collection_of
from pyramidai_mpi.export.outlines import RUN_DTYPE, outlines_of_runs
from pyramidai_mpi.pyramid.mask_labels import YES
from pyramidai_mpi.store.masks.reader import open_mask_file

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.pyramid.mask_labels import Labels
    from pyramidai_mpi.store.masks.reader import MaskFile

MOST_PIXELS = 1 << 26
"""Outlines are those of the largest stored level with no more pixels than this: finer ones no program draws."""


def write_mask_outlines(mask: Path, target: Path, *, overwrite: bool = False) -> None:
    """Write what is positive in a mask as QuPath annotations, the largest first.

    Points count from the corner of the slide's bounds, as QuPath shows it.

    Parameters
    ----------
    mask
        A mask that `segment` has written.
    target
        GeoJSON file to write; compressed when its name ends in ``.gz``.

    Raises
    ------
    InputError
        When the mask cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    with open_mask_file(mask) as file:
        facts = file.facts
        level = next((n for n, size in enumerate(file.sizes) if size[0] * size[1] <= MOST_PIXELS), len(file.sizes) - 1)
        side, um = facts["l0_downsample"] * 2**level, facts["um_px"] * 2**level
        text = classification(facts["classes"][1], POSITIVE)
        corner = np.array(facts["l0_bounds"], np.float64)
        with collection_of(
            target, facts["network"], facts["intended_use"], overwrite=overwrite, inputs=[mask]
        ) as collection:
            for outline, n_pixels, _ in outlines_of_runs(_runs(file, level), side):
                rings = [outline.exterior, *outline.interiors]
                coordinates = [np.round(np.asarray(ring.coords) - corner, 2).tolist() for ring in rings]
                measured = {"area_um2": round(n_pixels * um**2, 3)} if um else {}
                geometry = {"type": "Polygon", "coordinates": coordinates}
                collection.add(
                    [
                        f'{{"type":"Feature","geometry":{json.dumps(geometry)},"properties":{{"objectType":"annotation",'
                        f'"classification":{text},"measurements":{json.dumps(measured)}}}}}'
                    ]
                )


def _runs(file: MaskFile, level: int) -> npt.NDArray[np.void]:
    found = [np.empty(0, RUN_DTYPE)]
    for top, band in file.bands(level):
        found.append(_runs_of(band, top))
    return np.concatenate(found)


def _runs_of(band: Labels, top: int) -> npt.NDArray[np.void]:
    """Runs of positive pixels in a band of rows."""
    edges = np.diff(np.pad(band == YES, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(edges == 1)
    runs = np.zeros(len(row), RUN_DTYPE)
    runs["row"], runs["first"], runs["last"] = row + top, first, np.nonzero(edges == -1)[1]
    return runs
