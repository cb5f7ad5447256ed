"""The tree of PROCESS's first layer: decoded patches by label, level, centre, patient and node (medgift/PROCESS_L1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.formats.sources import Exported, plain_name
from pyramidai_mpi.store.files.placing import flush_file
from pyramidai_mpi.store.patches.record import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.patches.formats.sources import Source
    from pyramidai_mpi.patches.formats.table import PictureOptions

FILE = "patches.hdf5"
_NAMES = {"tumor": "tumor", "tumour": "tumor", "normal": "normal"}
"""Labels that the tree has a place for, as we may call them."""


def write_process(folder: Path, sources: Sequence[Source], options: PictureOptions) -> list[str]:
    """Write ``patches.hdf5``: ``{tumor|normal}/l<L>/c<C>/p<P>/n<N>/<batch>`` with ``patches`` and ``locations``.

    L is the stored level that the pixels are of, P has three digits as in the slides' names, and batches count from 0.
    ``patches`` is uint8 (n, S, S, 3), RGB where theirs are BGR; ``locations`` int64 (n, 2): x, y of the patch's corner
    in level-0 pixels, where theirs are row and column of a mask. Attributes of the file say so.

    Raises
    ------
    InputError
        When patches cannot be read, two slides are the same node, or nothing is labelled tumor or normal.
    """
    said = Exported(len(sources))
    taken: dict[str, Source] = {}
    path = folder / FILE
    with h5py.File(path, "w") as file:
        file.attrs.update(colours="RGB", locations="x, y of the patch's top-left corner, level-0 pixels")
        for source in sources:
            place = _place(source)
            if place in taken:
                raise InputError(f"{source.path}: is of the same node as {taken[place].path}; export it elsewhere")
            taken[place] = source
            _write_slide(file, source, place, said)
    flush_file(path)
    if not said.written:
        raise InputError(f"{sources[0].path}: no patch is labelled tumor or normal, of which PROCESS's tree is made")
    return [said.line("PROCESS")]


def _place(source: Source) -> str:
    origin = {name: plain_name(value, source.path, f"its {name}") for name, value in source.header.slide.origin.items()}
    patient = f"{int(origin['patient']):03d}" if origin["patient"].isdecimal() else origin["patient"]
    return f"l{source.header.settings.stored_level}/c{origin['centre']}/p{patient}/n{origin['node']}"


def _write_slide(file: h5py.File, source: Source, place: str, said: Exported) -> None:
    """Write a slide's patches, a batch for each group and label that has some."""
    names = source.header.settings.label_names
    kinds = {number: kind for number, name in enumerate(names) if (kind := _NAMES.get(name.casefold()))}
    batches = dict.fromkeys(kinds.values(), 0)
    for rows, pixels in source.groups():
        said.unknown += int((rows["label"] == UNKNOWN).sum())
        said.others += int(((rows["label"] != UNKNOWN) & ~np.isin(rows["label"], list(kinds))).sum())
        for number, kind in kinds.items():
            chosen = rows["label"] == number
            if not chosen.any():
                continue
            batch = file.create_group(f"{kind}/{place}/{batches[kind]}")
            batch.create_dataset("patches", data=pixels[chosen])
            batch.create_dataset("locations", data=np.stack([rows["l0_x"], rows["l0_y"]], axis=1)[chosen])
            batches[kind] += 1
            said.written += int(chosen.sum())
