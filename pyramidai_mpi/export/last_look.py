"""The last look at every place of a stored result, and where its pictures show tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.pyramid.last_look import paint_last_look
from pyramidai_mpi.store.results.tables import iter_rows, names_damage, read_mask_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.pyramid.last_look import LastLook
    from pyramidai_mpi.store.results.tables import Header, ResultFile


@names_damage
def read_last_look(file: ResultFile, header: Header) -> LastLook:
    """Lay the tiles of a stored result over each other.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    return paint_last_look(header.grid, lambda level: iter_rows(file, level), header.score_column)


def tissue_rows(
    file: ResultFile,
    header: Header,
    top: int,
    bottom: int,
    width: int,
    downsample: float,
    packed_mask: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.bool_]:
    """Where a picture's pixels are tissue: rows `top` to `bottom` (excluded) of `width` pixels, bool.

    Parameters
    ----------
    downsample
        Level-0 pixels per pixel of the picture.
    packed_mask
        The whole mask, rows packed by `numpy.packbits`, where it is at hand: each reading of the file unpacks it all.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    ratio = downsample / header.mask_downsample
    mask_height, mask_width = header.mask_shape
    y = np.minimum(((np.arange(top, bottom) + 0.5) * ratio).astype(np.int64), mask_height - 1)
    x = np.minimum(((np.arange(width) + 0.5) * ratio).astype(np.int64), mask_width - 1)
    first, last = int(y[0]), int(y[-1]) + 1
    if packed_mask is None:
        rows = read_mask_rows(file, first, last)
    else:
        rows = np.unpackbits(packed_mask[first:last], axis=1, count=mask_width).view(np.bool_)
    return np.asarray(rows[np.ix_(y - first, x)])
