"""Tiles and features for CLAM and TRIDENT: a folder a level, in it the HDF5 files that they pass on."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import h5py
import numpy as np

from pyramidai_mpi.base.errors import InputError, OutputExistsError
from pyramidai_mpi.store.files.placing import check_folder, check_target, discard, placed, storage_errors
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import iter_column, read_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.store.results.tables import Header

# TRIDENT's table (OpenSlideWSI._fetch_magnification): objective power by µm/px below
_MAGNIFICATIONS = ((0.16, 80), (0.2, 60), (0.3, 40), (0.6, 20), (1.2, 10), (2.4, 5))
_CHUNK_ROWS = 4096
_LONGEST_NAME = 200
"""Bytes that leave room for what a temporary file adds."""


def write_clam(result: Path, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write ``folder/level<n>/<slide>.h5`` for each level (see `_write_level`), without rows where it has no tiles.

    Both programs want a folder of files named like their slides, so many results may share the folder. What was there
    of further levels is removed when it is to be overwritten.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        When the result cannot be read.
    OutputExistsError, StorageError
        When a target is in the way or cannot be written.
    """
    with open_result(result) as file:
        header = read_header(file)
        name = _file_name(header.slide.name)
        targets = [folder / f"level{level}" / name for level in range(len(header.levels))]
        for target in targets:
            _make_folder(target.parent)
            check_target(target, overwrite=overwrite, inputs=[result])
        for level, target in enumerate(targets):
            with placed(target, overwrite=overwrite, inputs=[result]) as temporary:
                _write_level(file, header, level, temporary, target)
    if overwrite:
        for path in files_of_clam(folder, header.slide.name):
            if path not in targets:
                discard(path)
    return targets


def files_of_clam(folder: Path, slide_name: str) -> list[Path]:
    """A slide's files in the folder, of any level."""
    return [path for level in _levels_in(folder) if (path := level / _file_name(slide_name)).is_file()]


def _levels_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("level*")) if path.name.removeprefix("level").isdecimal()]


def check_clam(folder: Path, slide_name: str, *, overwrite: bool = False, inputs: Sequence[Path] = ()) -> None:
    """Find out before the work whether a slide's files could be placed in the folder after it, whatever their levels.

    Parameters
    ----------
    folder
        The folder that `write_clam` is to fill; it need not exist yet.
    slide_name
        The slide's file name.
    inputs
        What the work reads; it is never replaced.

    Raises
    ------
    UsageError, OutputExistsError, StorageError
        As `check_target`, of the folder and of what lies in it.
    """
    check_folder(next(above for above in (folder, *folder.parents) if os.path.lexists(above)))
    for level in _levels_in(folder):
        if not level.is_dir():
            raise OutputExistsError(f"{level}: is no folder; name another output")
        check_target(level / _file_name(slide_name), overwrite=overwrite, inputs=inputs)


def _file_name(slide_name: str) -> str:
    name = PurePath(slide_name).stem + ".h5"
    if len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"the slide's name {name:.40}... is too long for a file of CLAM's")
    return name


def _make_folder(folder: Path) -> None:
    with storage_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise OutputExistsError(f"{folder}: is no folder; name another output") from error


def nominal_magnification(mpp: float) -> int:
    """Objective power that goes with a pixel size, in the steps that TRIDENT uses; 2 beyond them."""
    return next((power for below, power in _MAGNIFICATIONS if mpp < below), 2)


def _write_level(source: h5py.File, header: Header, level: int, temporary: Path, target: Path) -> None:
    """Write the tiles of one level as ``coords`` and, where the result has them, ``features``.

    ``coords`` int64 (N, 2) are level-0 pixels; its attributes are CLAM's (``patch_size`` pixels of the stored level
    ``patch_level``) and TRIDENT's (``patch_size`` pixels at ``target_magnification``), which is the stored level's, so
    that both read the same area. ``features`` is float32 (N, F).

    Parameters
    ----------
    source
        An open result.
    header
        Its description.
    level
        The analysis level.
    temporary
        File to fill.
    target
        Its name to be, for the attributes.

    Raises
    ------
    InputError
        When the result is damaged.
    OSError, RuntimeError
        When the file cannot be written.
    """
    record, name = header.levels[level], PurePath(header.slide.name).stem
    magnification = nominal_magnification(header.slide.mpp)
    n_rows = header.n_tiles[level]
    with h5py.File(temporary, "w", libver=("earliest", "v110")) as out:
        for table, width, dtype in (("coords", 2, np.int64), ("features", record.n_features, np.float32)):
            if not width:
                continue
            chunks = (min(max(n_rows, 1), _CHUNK_ROWS), width)
            dataset = out.create_dataset(table, (n_rows, width), dtype, chunks=chunks, maxshape=(None, width))
            first = 0
            for block in iter_column(source, level, table):
                dataset[first : first + len(block)] = block
                first += len(block)
            dataset.attrs.update(name=name, savetodir=target.parent.name)
        width, height = header.slide.l0_size
        out["coords"].attrs.update(
            patch_size=record.patch_size,
            patch_level=record.patch_level,
            patch_size_level0=record.patch_size_level0,
            downsample=np.array([record.patch_size_level0 / record.patch_size] * 2),
            downsampled_level_dim=np.array(record.level_dim, np.int64),
            level_dim=np.array(record.level_dim, np.int64),
            level0_magnification=magnification,
            target_magnification=magnification * record.patch_size / record.patch_size_level0,
            level0_width=width,
            level0_height=height,
            overlap=0,
            save_path=target.parent.name,
        )
