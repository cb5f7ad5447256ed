"""Exporting files of patches: everything is checked before anything is made, and folders are whole or not there."""

from __future__ import annotations

import importlib
import json
import re
from typing import TYPE_CHECKING

import pyramidai_mpi
from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.export.replaced_folder import FolderKind, replaced_folder
from pyramidai_mpi.patches.formats.sources import check_needs, common_labels, read_sources
from pyramidai_mpi.store.files.placing import flush_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pyramidai_mpi.patches.formats.sources import Source
    from pyramidai_mpi.patches.formats.table import PatchFormat, PictureOptions

MARKER = "pyramidai-patches.json"
"""Lies in each folder: it says which files of patches an export is of, and that it is one."""


def export_patches(
    files: Sequence[Path],
    orders: Sequence[tuple[PatchFormat, Path]],
    options: PictureOptions,
    *,
    overwrite: bool = False,
) -> Iterator[str]:
    """Make folders of files of patches, one for each format asked for; what there is to say of each, as it is made.

    Parameters
    ----------
    files
        Files of patches.
    orders
        Formats, each with the folder to make.
    options
        How single pictures are written.
    overwrite
        Replace folders that hold nothing but such an export.

    Raises
    ------
    UsageError
        When two formats are to go into one folder.
    InputError
        When a file cannot be read, or has not what a format needs.
    OutputExistsError, StorageError
        When a folder is in the way or cannot be written.
    """
    taken: dict[Path, PatchFormat] = {}
    for asked, folder in orders:
        if other := taken.get(folder.absolute()):
            raise UsageError(f"{folder}: is named for --{other.name} and for --{asked.name}; name two folders")
        taken[folder.absolute()] = asked
        _kind(asked).check(folder, overwrite=overwrite)
    sources = read_sources(files)
    for asked, _ in orders:
        check_needs(asked, sources)
        if asked.pictures:
            common_labels(sources)
    for asked, folder in orders:
        with replaced_folder(folder, _kind(asked), overwrite=overwrite) as made:
            first, *more = _writer(asked)(made, sources, options)
            _write_marker(made / MARKER, asked, sources)
        yield f"{first}: {folder}"
        yield from more


def _writer(asked: PatchFormat) -> Callable[[Path, Sequence[Source], PictureOptions], list[str]]:
    module, _, name = asked.writer.rpartition(".")
    found: Callable[[Path, Sequence[Source], PictureOptions], list[str]]
    found = getattr(importlib.import_module(f"pyramidai_mpi.patches.formats.{module}"), name)
    return found


def _kind(asked: PatchFormat) -> FolderKind:
    return FolderKind(f"patches for {asked.title}", MARKER, f"{asked.names}|{re.escape(MARKER)}", asked.folders)


def _write_marker(path: Path, asked: PatchFormat, sources: Sequence[Source]) -> None:
    """Say what is exported: no time, so that the same export is the same folder."""
    about = {
        "export": asked.name,
        "software_version": pyramidai_mpi.__version__,
        "patches": [
            {"file": source.path.name, "slide": source.header.slide.name, "digest": source.header.digest}
            for source in sources
        ],
    }
    path.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    flush_file(path)
