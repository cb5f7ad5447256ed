"""Explained tiles as a layer of a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.export.explained.scales import scale_of
from pyramidai_mpi.export.explained.stitched import pyramid_of, stitched
from pyramidai_mpi.export.explained.words import CAVEAT, title_of
from pyramidai_mpi.export.layers import Layer, with_palette
from pyramidai_mpi.export.page import css_ramp, data_uri
from pyramidai_mpi.export.shown import along
from pyramidai_mpi.store.explanations.reader import read_explanation

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.export.shown import Scale
    from pyramidai_mpi.store.explanations.contents import Explanation
    from pyramidai_mpi.store.results.tables import Header

_MOST_PIXELS = 1 << 22
_STEPS = 240


@dataclass(frozen=True)
class ExplainedLayer:
    """What a page shows of explained tiles.

    Attributes
    ----------
    layer
        The picture.
    title, caveat, claim
        What the attribution is of; what it is not; what the model may be used for, empty where nobody says.
    scale, ramp
        Of the colours; colours for CSS along it.
    n_tiles
        How many tiles were explained.
    gain
        Means over tiles of what the areas under the curves of deletion are below random ones, and those of insertion
        above; None where nobody asked for the curves.
    digest
        Of the explanations.
    """

    layer: Layer
    title: str
    caveat: str
    claim: str
    scale: Scale
    ramp: list[str]
    n_tiles: int
    gain: tuple[float, float] | None
    digest: str


def parse_explained(text: str) -> Path:
    """A file of explained tiles, from the text of an option."""
    if not text:
        raise UsageError("--explained: names no file of explained tiles")
    return Path(text)


def explanation_for(explained: Path, result: Path, header: Header) -> Explanation:
    """Read explained tiles that are to be laid over a result.

    Raises
    ------
    InputError
        When they cannot be read, or are of another slide or another network than the result.
    """
    explanation = read_explanation(explained)
    if explanation.slide.quickhash != header.slide.quickhash or explanation.slide.l0_size != header.slide.l0_size:
        raise InputError(f"{explained}: is of slide {explanation.slide.name}, not of that of {result}")
    if explanation.model.level_sha256[explanation.level] not in header.model.level_sha256:
        raise InputError(f"{explained}: explains model {explanation.model.name}, which has not looked for {result}")
    return explanation


def explained_layer(explanation: Explanation) -> ExplainedLayer:
    """The stitched maps as a page shows them; smaller where they have more than four million pixels."""
    scale = scale_of(explanation)
    levels = pyramid_of(stitched(explanation), signed=scale.is_signed)
    picture = next((one for one in levels if one.shape[0] * one.shape[1] <= _MOST_PIXELS), levels[-1])
    (height, width), l0_size = picture.shape, explanation.slide.l0_size
    covered = width * picture.l0_side / l0_size[0], height * picture.l0_side / l0_size[1]
    uri = data_uri(with_palette(painted(picture.values(), scale)), "PNG")
    return ExplainedLayer(
        Layer("explained", "Explained tiles", uri, *covered),
        title_of(explanation),
        CAVEAT,
        claim_of(explanation.model.intended_use),
        scale,
        css_ramp(scale),
        len(explanation.tiles) - len(explanation.failed),
        gain_of(explanation),
        explanation.digest,
    )


def gain_of(explanation: Explanation) -> tuple[float, float] | None:
    """How much better than random maps they are, as `ExplainedLayer.gain`."""
    areas = explanation.tiles.areas()
    if not areas or np.isnan(areas["deletion"]).all():
        return None
    return (
        float(np.nanmean(areas["random_deletion"] - areas["deletion"])),
        float(np.nanmean(areas["insertion"] - areas["random_insertion"])),
    )


def painted(values: npt.NDArray[np.float32], scale: Scale) -> npt.NDArray[np.uint8]:
    """Numbers in colours, RGBA, uint8 (h, w, 4), clear where there are none; few enough colours for a palette."""
    shown = np.isfinite(values)
    pixels = np.zeros((*values.shape, 4), np.uint8)
    position = np.rint(scale.position(values[shown]) * _STEPS) / _STEPS
    pixels[shown, :3] = np.rint(along(position, scale.anchors))
    pixels[shown, 3] = 255
    return pixels
