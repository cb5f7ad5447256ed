"""Tiles and features for CLAM and TRIDENT: a folder a level, in it the HDF5 files that they pass on."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, OutputExistsError
from pyramidai_mpi.export.cells import cell_grid, count_cells, is_dense, iter_level_cells
from pyramidai_mpi.export.coordinate_file import (
    Rows,
    clam_attributes,
    nominal_magnification,
    trident_attributes,
    write_coordinate_file,
)
from pyramidai_mpi.store.files.placing import check_folder, check_target, discard, placed, storage_errors
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import iter_column, read_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.store.results.tables import Header, ResultFile

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


def _write_level(source: ResultFile, header: Header, level: int, temporary: Path, target: Path) -> None:
    """Write the tiles of one level as ``coords`` and, where the result has them, ``features``.

    ``coords`` int64 (N, 2) are level-0 pixels; its attributes are CLAM's (``patch_size`` pixels of the stored level
    ``patch_level``) and TRIDENT's (``patch_size`` pixels at ``target_magnification``), which is the stored level's, so
    that both read the same area. ``features`` is float32 (N, F). Of a level whose tiles are blocks of windows, each
    window is a patch; ``overlap`` and ``stride`` say how far apart they lie.

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
    record, name, folder = header.levels[level], PurePath(header.slide.name).stem, target.parent.name
    stored_power = nominal_magnification(header.slide.mpp) * record.patch_size / record.patch_size_level0
    downsample = record.patch_size_level0 / record.patch_size
    clam = clam_attributes(name, folder, record.patch_size, record.patch_level, downsample, record.level_dim)
    grid = cell_grid(header)
    stride = round(record.patch_size * grid.levels[level].cell / header.model.tile_size)
    trident = trident_attributes(
        name,
        folder,
        record.patch_size,
        record.patch_size_level0,
        header.slide.mpp,
        stored_power,
        header.slide.l0_size,
        overlap=record.patch_size - stride,
    )
    if is_dense(header):
        corners = (grid.l0_corners(level, cells.index) for cells in iter_level_cells(source, header, level))
        n_windows = count_cells(source, header, level)
        of_windows = {"stride": stride, "stride_level0": grid.l0_side(level)}
        coords: dict[str, Rows] = {"coords": (2, np.int64, corners)}
        write_coordinate_file(temporary, n_windows, coords, {"coords": clam | trident | of_windows})
        return
    tables: dict[str, Rows] = {"coords": (2, np.int64, iter_column(source, level, "coords"))}
    if record.n_features:
        tables["features"] = (record.n_features, np.float32, iter_column(source, level, "features"))
    attributes = {"coords": clam | trident, "features": {"name": name, "savetodir": folder}}
    write_coordinate_file(temporary, header.n_tiles[level], tables, attributes)
