"""The FDA's files: groups of decoded patches for array jobs, and their look-up table (Li, Mikailov and Chen 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.patches.formats.sources import Exported
from pyramidai_mpi.patches.lookup import lookup_lines
from pyramidai_mpi.store.files.placing import flush_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.patches.formats.sources import Source
    from pyramidai_mpi.patches.formats.table import PictureOptions


def write_fda(folder: Path, sources: Sequence[Source], options: PictureOptions) -> list[str]:
    """Write ``<slide>.h5`` and ``<slide>.csv`` for each slide, and ``lookup.txt`` over all.

    Groups ``t1``, ``t2``, ... are the groups of the file of patches. Each holds ``img`` uint8 (n, S, S, 3), RGB, and
    ``coord`` int64 (n, 5): column and row of the cell, x and y of the patch's corner in level-0 pixels, S. The corner
    is that of the pixels in every case: theirs are moved at the edges of a slide, ours are white beyond it.

    Raises
    ------
    InputError
        When patches cannot be read, or a slide's name holds blanks, which separate the columns of the tables.
    """
    lines = []
    groups = [(source.stem, source.header.n_groups) for source in sources]
    lookup = list(lookup_lines(groups))  # names with blanks are refused before the work
    for source, (stem, n_groups) in zip(sources, groups, strict=True):
        path = folder / f"{stem}.h5"
        with h5py.File(path, "w") as file:
            for number, (rows, pixels) in enumerate(source.groups(own=True), start=1):
                place = file.create_group(f"t{number}")
                place.create_dataset("img", data=pixels)
                places = [rows[name].astype(np.int64) for name in ("col", "row", "l0_x", "l0_y")]
                size = np.full(len(rows), source.header.settings.size, np.int64)
                place.create_dataset("coord", data=np.stack([*places, size], axis=1))
        flush_file(path)
        _write_text(folder / f"{stem}.csv", f"{n_groups} {stem}\n")
        downsample = source.header.settings.downsample
        if downsample != 1:
            lines.append(
                f"  {stem}: its pixels are {downsample:.4g} level-0 pixels wide, where the FDA's are of level 0; x and "
                "y in coord are level-0 pixels, the size is not"
            )
    _write_text(folder / "lookup.txt", "".join(f"{line}\n" for line in lookup))
    said = Exported(len(sources), sum(source.header.n_patches for source in sources))
    return [f"{said.line('FDA')}; {counted(sum(n for _, n in groups), 'group')}", *lines]


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    flush_file(path)
