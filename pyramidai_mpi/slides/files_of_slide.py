"""Of which files a slide consists, for whoever takes it elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.slides.dicom import series_of_file

if TYPE_CHECKING:
    from pathlib import Path

_NAME_OTHERS = (".vms", ".vmu")
"""Hamamatsu's, which name other files in them."""


def files_of_slide(path: Path) -> list[Path]:
    """All files of a slide, the one that stands for it first; of MIRAX its folder's, of DICOM those of its series.

    Raises
    ------
    InputError
        They cannot be found out, or cannot be read.
    """
    ending = path.suffix.casefold()
    if ending in _NAME_OTHERS:
        raise InputError(f"{path}: names other files, which are not known; put the slide on every host (--own-disks)")
    with input_errors(path):
        if ending == ".mrxs":
            return [path, *sorted(one for one in path.with_suffix("").rglob("*") if one.is_file())]
        series = series_of_file(path)
        if series is None:
            return [path]
        beside = sorted(one for one in path.parent.iterdir() if one != path and one.is_file())
        return [path, *(one for one in beside if series_of_file(one) == series)]
