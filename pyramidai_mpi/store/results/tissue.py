"""The tissue mask of a stored result where all of it at once would be too much: read in bands of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.pyramid.tissue import block_sums
from pyramidai_mpi.store.results.tables import read_mask_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.store.results.tables import Header, ResultFile

_BAND = 512


def read_packed_mask(file: ResultFile, header: Header) -> npt.NDArray[np.uint8]:
    """The tissue mask, each row packed by `numpy.packbits`; read in bands.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    height, width = header.mask_shape
    packed = np.empty((height, -(-width // 8)), np.uint8)
    for top in range(0, height, _BAND):
        packed[top : top + _BAND] = np.packbits(read_mask_rows(file, top, min(top + _BAND, height)), axis=1)
    return packed


def read_tissue_counts(file: ResultFile, header: Header, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Mask pixels of tissue in each level-0 tile, int32 (rows, cols) for `shape` (cols, rows); read in bands.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    block = round(header.grid.l0_side(0) / header.mask_downsample)
    (cols, rows), height = shape, header.mask_shape[0]
    counts = np.zeros((rows, cols), np.int32)
    band_rows = max(1, _BAND // block)
    for first in range(0, rows, band_rows):
        last = min(first + band_rows, rows)
        mask = read_mask_rows(file, min(first * block, height), min(last * block, height))
        counts[first:last] = block_sums(mask, block, (cols, last - first))
    return counts
