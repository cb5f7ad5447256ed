"""The stitched maps of explained tiles as a pyramidal BigTIFF, as heatmaps are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.export.explained.scales import scale_of
from pyramidai_mpi.export.explained.stitched import stitched
from pyramidai_mpi.export.explained.words import sentences_of
from pyramidai_mpi.export.heat_pyramid import Heat, write_heat
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from pathlib import Path


def write_explained_heatmap(explained: Path, target: Path, *, overwrite: bool = False) -> None:
    """Write the attribution over the slide, see `stitched.stitched`: NaN, and grey 0, where no tile was explained.

    The first image has the maps' numbers and is called ``attribution``; the second's greys go from 1 to 255 along their
    scale, which the description gives, beside method, class, layer and what the model may be used for.

    Raises
    ------
    InputError
        When the explanations cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    explanation = read_explanation(explained)
    picture = stitched(explanation)
    said = (
        f"{sentences_of(explanation)} A pixel is {picture.l0_side:g} level-0 pixels a side; pixel (x, y) begins at "
        f"level-0 pixel ({picture.l0_side:g} x, {picture.l0_side:g} y)."
    )
    heat = Heat(picture.shape, explanation.slide.mpp * picture.l0_side, scale_of(explanation), said, picture.rows)
    with placed(target, overwrite=overwrite, inputs=[explained]) as temporary:
        write_heat(temporary, heat, target.parent)
