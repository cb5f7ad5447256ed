"""The heatmap as a pyramidal BigTIFF: the score of every tissue pixel, as `heat_pyramid` writes numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.export.cell_look import CellLook
from pyramidai_mpi.export.cells import is_dense
from pyramidai_mpi.export.heat_pyramid import Heat, write_heat
from pyramidai_mpi.export.last_look import tissue_rows
from pyramidai_mpi.export.shown import looks_and_scale
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import read_header
from pyramidai_mpi.store.results.tissue import read_packed_mask

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.export.shown import Scale, Show
    from pyramidai_mpi.pyramid.last_look import LastLook
    from pyramidai_mpi.store.results.tables import Header, ResultFile


def write_heatmap(result: Path, target: Path, *, overwrite: bool = False, show: Show | None = None) -> None:
    """Write the score of every tissue pixel, on the grid of the tissue mask (about 32 level-0 pixels a pixel).

    Where the pyramid did not zoom in, the last tile's score stands for all of its tissue. Memory is that of a band of
    rows beside one number for each level-0 tile and one bit for each pixel of the mask.

    Of a result with strides a pixel is a cell of the finest one, with the score of the finest window over it that was
    looked at, and tissue where its middle is; memory is that of a band of rows and these bits. The description in the
    file says where in a pixel the centre of its window lies, which is where the score belongs.

    With `show` they are attention or contribution in place of scores: the first image has the numbers, named so, and
    the view has 1 and 255 at the ends of their scale, which the description gives. A reduced pixel of a contribution is
    the one furthest from 0.

    Raises
    ------
    UsageError
        When the result has nothing of the kind to show.
    InputError
        When the result cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    with open_result(result) as file:
        header = read_header(file)
        last_look, scale = looks_and_scale(file, header, show)
        with placed(target, overwrite=overwrite, inputs=[result]) as temporary:
            write_heat(temporary, _heat_of(file, header, last_look, scale), target.parent)


def _heat_of(file: ResultFile, header: Header, last_look: LastLook | CellLook, scale: Scale) -> Heat:
    """The picture; it says what the model is for, where the result does, and how pixels lie to windows that overlap."""
    shape, downsample = header.mask_shape, header.mask_downsample
    if isinstance(last_look, CellLook):
        shape, downsample = last_look.shape, last_look.l0_tile_side

    packed = read_packed_mask(file, header)

    def rows(top: int, bottom: int) -> npt.NDArray[np.float32]:
        score = last_look.scores(top, bottom, shape[1], downsample)
        tissue = tissue_rows(file, header, top, bottom, shape[1], downsample, packed)
        return np.where(tissue, score, np.float32(np.nan))

    said = " ".join(filter(None, [claim_of(header.model.intended_use), where_scores_belong(header)]))
    return Heat(shape, header.slide.mpp * downsample, scale, said, rows)


def where_scores_belong(header: Header) -> str:
    """How a pixel lies to its window, of a result with strides, else nothing."""
    if not is_dense(header):
        return ""
    finest, window = header.levels[0], header.model.tile_size
    cell, margin = finest.cell or window, finest.margin
    l0_side, l0_shift = cell * finest.downsample, (window / 2 - margin) * finest.downsample
    return (
        f"A pixel is the cell of a window of {window} px at stride {cell} ({finest.spacing_um_px:g} µm/px): pixel "
        f"(x, y) covers the slide's level-0 pixels from ({l0_side:g} x, {l0_side:g} y) on, {l0_side:g} a side. Its "
        f"score belongs to the centre of the window, level-0 pixel ({l0_side:g} x + {l0_shift:g}, {l0_side:g} y + "
        f"{l0_shift:g}). Where only coarser windows were looked at, it is the score of the finest of them over it."
    )
