"""Outlines of what stands out in the maps of explained tiles, as GeoJSON that QuPath opens."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.export.explained.stitched import BLOCK, stitched
from pyramidai_mpi.export.explained.words import sentences_of
from pyramidai_mpi.export.features import classification, collection_of
from pyramidai_mpi.export.outlines import RUN_DTYPE, outlines_of_runs, runs_of
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.store.files.placing import check_target

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.export.explained.stitched import StitchedMap
    from pyramidai_mpi.store.explanations.contents import Explanation

_COLOUR = (230, 159, 0)
"""Orange of Okabe and Ito: no class of a result has it first."""
_KINDS = ("quantile", "share", "value")


@dataclass(frozen=True)
class Above:
    """From which number on pixels are outlined.

    Attributes
    ----------
    kind
        ``quantile`` of all pixels of explained tiles; ``share`` of all that speaks for the class, which the highest
        pixels hold together; ``value``, the number itself.
    number
        0 to 1, of ``value`` any.
    """

    kind: str
    number: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.number:g}"


def parse_above(text: str) -> Above:
    """From the text of an option such as ``quantile:0.9``.

    Raises
    ------
    UsageError
        When it makes no sense.
    """
    kind, _, number = text.partition(":")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if kind not in _KINDS or not math.isfinite(value) or (kind != "value" and not 0 <= value <= 1):
        raise UsageError(f"--above {text}: expected quantile:Q or share:S with a number from 0 to 1, or value:V")
    return Above(kind, value)


DEFAULT_ABOVE = Above("quantile", 0.9)


def write_explained_outlines(
    explained: Path, target: Path, *, overwrite: bool = False, above: Above = DEFAULT_ABOVE
) -> None:
    """Write what stands out in the stitched maps as QuPath annotations with area and highest number, largest first.

    Pixels count that are at or above the limit and speak for the class: above 0 where maps are signed, else above the
    lowest number of all. Each annotation's description, which QuPath shows beside it, says method, class and layer,
    and what the model may be used for.

    Raises
    ------
    InputError
        When the explanations cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    check_target(target, overwrite=overwrite, inputs=[explained])
    explanation = read_explanation(explained)
    picture = stitched(explanation)
    text = classification(f"{explanation.method}: {explanation.class_name}", _COLOUR)
    said = json.dumps({"ANNOTATION_DESCRIPTION": f"{sentences_of(explanation)} Outlined: {above}."})
    model = explanation.model
    corner = np.array(explanation.slide.l0_bounds, np.float64)  # from which QuPath counts
    with collection_of(target, model.name, model.intended_use, overwrite=overwrite, inputs=[explained]) as collection:
        runs = _runs(picture, limits_of(explanation, picture, above))
        for outline, n_pixels, highest in outlines_of_runs(runs, picture.l0_side) if len(runs) else ():
            measured = {
                "area_um2": round(n_pixels * (picture.l0_side * explanation.slide.mpp) ** 2, 3),
                "max_attribution": float(f"{highest:.9g}"),
                "n_pixels": n_pixels,
            }
            rings = [outline.exterior, *outline.interiors]
            coordinates = [np.round(np.asarray(ring.coords) - corner, 2).tolist() for ring in rings]
            geometry = {"type": "Polygon", "coordinates": coordinates}
            collection.add(
                [
                    f'{{"type":"Feature","geometry":{json.dumps(geometry)},"properties":{{"objectType":"annotation",'
                    f'"classification":{text},"measurements":{json.dumps(measured)},"metadata":{said}}}}}'
                ]
            )


def limits_of(explanation: Explanation, picture: StitchedMap, above: Above) -> tuple[float, float]:
    """From which number on pixels count, and the number that they have to be above in any case."""
    found = [block[np.isfinite(block)] for block in picture.blocks.values()]
    values = np.concatenate([np.empty(0, np.float32), *found]).astype(np.float64)
    if not values.size:
        return math.inf, 0.0
    floor = 0.0 if explanation.is_signed else float(values.min())
    if above.kind == "value":
        return above.number, floor
    if above.kind == "quantile":
        return float(np.quantile(values, above.number)), floor
    highest = np.sort(values[values > floor])[::-1]
    held = np.cumsum(highest - floor)
    if not highest.size:
        return math.inf, floor
    return float(highest[min(int(np.searchsorted(held, above.number * held[-1])), len(highest) - 1)]), floor


def _runs(picture: StitchedMap, limits: tuple[float, float]) -> npt.NDArray[np.void]:
    """Pixels at or above the limit, as runs."""
    least, floor = limits
    found = [np.empty(0, RUN_DTYPE)]
    for top in range(0, picture.shape[0], BLOCK):
        values = picture.rows(top, min(top + BLOCK, picture.shape[0]))
        row, col = np.nonzero((values >= least) & (values > floor))
        if len(row):
            found.append(runs_of(np.stack([col, row + top], axis=1), values[row, col]))
    return np.concatenate(found)
