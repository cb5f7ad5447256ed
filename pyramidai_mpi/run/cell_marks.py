"""What annotations and lists of places say of the cells of a slide."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.base.patch_order import LABELS
from pyramidai_mpi.pyramid.cells import CellMarks
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import CELL_ROLES, RegionFile, mask_downsample
from pyramidai_mpi.run.places import ListedPlaces

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.patch_order import PatchLabels, PatchOrder
    from pyramidai_mpi.pyramid.tissue import TissueMap

log = logging.getLogger(__name__)

TRUTH, PLACES = CELL_ROLES
_NORMAL, _TUMOR = range(len(LABELS))


def files_of_cells(slide: Path, order: PatchOrder) -> tuple[RegionFile, ...]:
    """The files that have a say in the cells of a slide, and their hashes, without reading what they say.

    Of a slide that is listed as one without tumour, the word ``negative`` is hashed, as the list tells of others too.

    Raises
    ------
    InputError
        When there is none for the slide, or it cannot be read.
    """
    files = []
    if order.labels.truth is not None:
        from pyramidai_mpi.truth.truth import NEGATIVE_LIST, find_annotation  # loads shapely

        where = order.labels.truth
        path = find_annotation(where, slide.name) if where.is_dir() else where
        is_listed = path.name == NEGATIVE_LIST
        sha256 = hashlib.sha256(b"negative").hexdigest() if is_listed else file_sha256(path)
        files.append(RegionFile(TRUTH, path.name, sha256))
    listed = ListedPlaces.find(order.places, slide.name)
    if listed is not None:
        files.append(RegionFile(PLACES, listed.path.name, listed.sha256()))
    return tuple(files)


def marks_of(slide: OpenSlide, order: PatchOrder, tissue: TissueMap) -> CellMarks:
    """Read what is said of the cells of an open slide.

    Raises
    ------
    InputError
        When annotations or places are missing, cannot be used, or are another slide's.
    """
    tumor = label = wanted = None
    if order.labels.truth is not None:
        tumor, label = _labelled(slide, order.labels, order.labels.truth, tissue)
    listed = ListedPlaces.find(order.places, slide.source.path.name)
    if listed is not None:
        wanted = _at_places(slide, listed, tissue)
    return CellMarks(tumor, label, wanted)


def _labelled(
    slide: OpenSlide, labels: PatchLabels, where: Path, tissue: TissueMap
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Tumour share of the tissue of each cell, float32 (rows, cols), NaN without tissue; number of its label, int8."""
    from pyramidai_mpi.truth.coverage import UNIT
    from pyramidai_mpi.truth.labels import doubts, tumor_of_tiles
    from pyramidai_mpi.truth.truth import read_truth

    info = slide.pyramid.reader.info
    truth = read_truth(where, slide.source.path.name, info.l0_size, l0_bounds=info.l0_bounds)
    covered = truth.coverage((tissue.mask.shape[0], tissue.mask.shape[1]), mask_downsample(tissue.grid))
    for note in (*truth.notes, *doubts(tissue.mask, covered)):
        log.warning("%s: %s", truth.source, note)
    (held,) = tumor_of_tiles(tissue, covered)
    whole = tissue.counts[0] * UNIT
    # labels by whole numbers, as tiles have theirs: none depends on rounding
    label = np.full(held.shape, -1, np.int8)
    label[(whole > 0) & (held <= labels.normal_share * whole)] = _NORMAL
    label[(whole > 0) & (held >= labels.tumor_share * whole)] = _TUMOR
    share = np.full(held.shape, np.nan, np.float32)
    np.divide(held, whole, out=share, where=whole > 0, casting="same_kind")
    return share, label


def _at_places(slide: OpenSlide, listed: ListedPlaces, tissue: TissueMap) -> npt.NDArray[np.bool_]:
    """Cells that hold a listed place, bool (rows, cols)."""
    points = listed.points(slide.pyramid.reader.info.l0_size, slide.quickhash)
    cols, rows = tissue.grid.shape(0)
    wanted = np.zeros((rows, cols), bool)
    at = np.floor(points / tissue.grid.l0_side(0)).astype(np.int64)
    col, row = np.minimum(at[:, 0], cols - 1), np.minimum(at[:, 1], rows - 1)
    wanted[row, col] = True
    n_off = int(np.count_nonzero(~TileRule(tissue, slide.source.min_tissue).root_map()[row, col]))
    if n_off:
        log.warning(
            "%s: %d of %s lie in cells without enough tissue, which are no patches (--min-tissue, --no-tissue)",
            listed.path,
            n_off,
            counted(len(points), "place"),
        )
    return wanted
