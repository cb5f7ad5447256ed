"""HDF5 files of other programs: coordinates of CLAM and TRIDENT, features.

A child reads such a file first, as HDF5 may crash of a damaged one. Here the process that fuzzes does what the child
does; a crash of HDF5 is the child's, and contained.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import h5py

from bench.faults.fuzz.bases import COORDINATES, RESULTS, SLIDE, base
from bench.faults.fuzz.kinds.sealed import change_file, changes_of, mutate_of
from bench.faults.fuzz.target import Target
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.formats import foreign_coordinates
from pyramidai_mpi.patches.formats.foreign_features import FeatureFile
from pyramidai_mpi.slides.readers.choice import open_slide

if TYPE_CHECKING:
    from pathlib import Path

_BASES = (COORDINATES, RESULTS[0])


def _read(data: bytes, folder: Path) -> None:
    order, changes = changes_of(data)
    name = order.get("base")
    path = folder / "slide.h5"
    path.write_bytes(base(name if name in _BASES else COORDINATES))
    for change in changes:
        try:
            with h5py.File(path, "r+") as file:
                change_file(file, *change)
        except Exception as error:  # HDF5 does not make such a file
            raise InputError(f"no such change: {error!s:.80}") from error
    if name != COORDINATES:
        features = FeatureFile(path, tried=True)
        foreign_features_of(features)
        return
    found = foreign_coordinates._read(path)
    slide = folder / SLIDE
    slide.write_bytes(base(SLIDE))
    reader = open_slide(slide)
    try:
        make = foreign_coordinates.trident_geometry if order.get("way") else foreign_coordinates.clam_geometry
        make(found, reader.info)
    finally:
        reader.close()


def foreign_features_of(features: FeatureFile) -> None:
    """Read some rows, as a training does."""
    import numpy as np

    features.rows(np.arange(min(features.n_tiles, 5000)))


def _seeds(_: Path) -> dict[str, bytes]:
    return {
        f"{name}-{way}": json.dumps({"base": name, "way": way, "changes": []}).encode()
        for name in _BASES
        for way in (0, 1)
    }


FOREIGN = Target(_read, _seeds, mutate_of(_BASES), memory_mib=1024)
