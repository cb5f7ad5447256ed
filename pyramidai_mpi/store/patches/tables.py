"""The tables of patches of an open file: read block by block, and believed only where they fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.store.patches.record import PATCH_DTYPE, PLACE_DTYPE, PLACES, SHARES, UNKNOWN, placed_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import h5py
    import numpy.typing as npt

    from pyramidai_mpi.store.patches.record import PatchHeader

BLOCK_ROWS = 1 << 14
"""Rows of a chunk of a table, which are unpacked together."""
MOST_BLOCKS = 64
"""Blocks of places that are kept: those of a million patches, 24 bytes each."""


class PlacesRead:
    """Places of patches that were read block by block; used by any number of threads and forked processes."""

    def __init__(self) -> None:
        self.blocks: dict[int, npt.NDArray[np.void]] = {}

    def between(self, first: int, last: int, read: Callable[[int], npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
        """`PLACE_DTYPE` records from one patch up to another (excluded); `read` gives a block that is not kept."""
        start = first // BLOCK_ROWS
        blocks = [self._block(number, read) for number in range(start, -(-last // BLOCK_ROWS))]
        rows = blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros(0, PLACE_DTYPE), *blocks])
        return rows[first - start * BLOCK_ROWS : last - start * BLOCK_ROWS]

    def _block(self, number: int, read: Callable[[int], npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
        kept = self.blocks.get(number)
        if kept is not None:
            return kept
        rows = read(number)
        rows.flags.writeable = False
        if len(self.blocks) >= MOST_BLOCKS:
            self.blocks = {}  # a thread that is at it keeps the old one
        self.blocks[number] = rows
        return rows


def rows_of(
    table: h5py.Dataset, dtype: np.dtype[Any], shape: tuple[int, ...], part: slice = slice(None)
) -> npt.NDArray[Any]:
    """Rows of a table that has to be of this type and shape.

    Raises
    ------
    ValueError
        When it is not.
    """
    if table.dtype != dtype or table.shape != shape:
        raise ValueError(f"{table.name} is {table.dtype} {table.shape}, expected {dtype} {shape}")
    return np.asarray(table[part])


def read_patches(group: h5py.Group, header: PatchHeader) -> npt.NDArray[np.void]:
    """`PATCH_DTYPE` records of all patches, from the group that holds their tables.

    Raises
    ------
    ValueError
        When they do not fit each other or the slide.
    """
    n, n_labels = header.n_patches, len(header.settings.label_names)
    table = np.empty(n, PATCH_DTYPE)
    for number in range(-(-n // BLOCK_ROWS)):  # so that there is one whole table, and no more
        part = _part(header, number)
        rows = _placed(group, header, part)
        cell_coords = rows_of(group["cell_coords"], np.dtype("<i8"), (n, 2), part)
        label = rows_of(group["label"], np.dtype("<i2"), (n,), part)
        shares = {name: rows_of(group[name], np.dtype("<f4"), (n,), part) for name in SHARES}
        if not (
            (cell_coords == np.stack([rows["cell_l0_x"], rows["cell_l0_y"]], axis=1)).all()
            and (shares["inside"] == rows["inside"]).all()
            and all((((share >= 0) & (share <= 1)) | np.isnan(share)).all() for share in shares.values())
            and ((label >= UNKNOWN) & (label < n_labels)).all()
            and (number == 0 or _follows(table[part.start - 1], rows[0]))
        ):
            raise _no_fit()
        for name, share in shares.items():
            rows[name] = share
        rows["label"] = label
        table[part] = rows
    return table


def read_places(group: h5py.Group, header: PatchHeader, number: int) -> npt.NDArray[np.void]:
    """`PLACE_DTYPE` records of a block of patches.

    Raises
    ------
    ValueError
        When they do not fit each other or the slide.
    """
    table = _placed(group, header, _part(header, number))
    rows = np.empty(len(table), PLACE_DTYPE)
    for name in PLACE_DTYPE.names or ():
        rows[name] = table[name]
    return rows


def _part(header: PatchHeader, number: int) -> slice:
    return slice(number * BLOCK_ROWS, min((number + 1) * BLOCK_ROWS, header.n_patches))


def _placed(group: h5py.Group, header: PatchHeader, part: slice) -> npt.NDArray[np.void]:
    """`PATCH_DTYPE` records of some rows, as they follow from where the patches lie; without shares and labels."""
    index = rows_of(group["index"], np.dtype("<u4"), (header.n_patches, 2), part)
    coords = rows_of(group["coords"], np.dtype("<i8"), (header.n_patches, 2), part)
    unknown = np.full(len(index), np.nan, np.float32)
    table = placed_table(header.settings, header.slide.l0_size, index, coords, unknown)
    if table is not None and header.settings.places != PLACES[0]:
        table["col"] += part.start  # their numbers
    if (
        table is None
        or not (index == np.stack([table["col"], table["row"]], axis=1)).all()
        or not (coords == np.stack([table["l0_x"], table["l0_y"]], axis=1)).all()
    ):
        raise _no_fit()
    return table


def _follows(one: np.void, other: np.void) -> bool:
    """Whether a patch stands after another one, row by row, or by their numbers where they are listed."""
    return (int(one["row"]), int(one["col"])) < (int(other["row"]), int(other["col"]))


def _no_fit() -> ValueError:
    return ValueError("its tables of patches do not fit each other, or the slide")
