"""Tiles and features for CLAM and TRIDENT, a folder a level."""

from __future__ import annotations

from pathlib import Path, PurePath

from pyramidai_mpi.errors import OutputExistsError
from pyramidai_mpi.store.bags import write_bag
from pyramidai_mpi.store.placing import check_target, placed, storage_errors
from pyramidai_mpi.store.reader import open_result
from pyramidai_mpi.store.tables import read_header


def write_clam(result: Path, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write ``folder/level<n>/<slide>.h5`` for each level that has tiles (see `store.bags.write_bag`).

    Both programs want a folder of files named like their slides, so many results may share the folder.

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
        name = PurePath(header.slide.name).stem + ".h5"
        targets = {level: folder / f"level{level}" / name for level, n_tiles in enumerate(header.n_tiles) if n_tiles}
        for target in targets.values():
            _make_folder(target.parent)
            check_target(target, overwrite=overwrite, inputs=[result])
        for level, target in targets.items():
            with placed(target, overwrite=overwrite, inputs=[result]) as temporary:
                write_bag(file, header, level, temporary, target)
    return list(targets.values())


def _make_folder(folder: Path) -> None:
    with storage_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise OutputExistsError(f"{folder}: is no folder; name another output") from error
