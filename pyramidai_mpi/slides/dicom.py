"""Slides that are folders: DICOM keeps each level of a slide, its label and the rest in files of one series."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, input_errors

if TYPE_CHECKING:
    from pathlib import Path

_PREAMBLE, _MARK = 128, b"DICM"
_HEAD_BYTES = 1 << 18
"""What is read of a file: its series is named before anything large, as elements are in the order of their numbers."""
_TRANSFER_SYNTAX, _SERIES = (0x0002, 0x0010), (0x0020, 0x000E)
_IMPLICIT = b"1.2.840.10008.1.2"
_LONG_KINDS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_ITEMS, _ENDS = 0xFFFE, (0xE00D, 0xE0DD)
_UNTIL_ITS_END = 0xFFFFFFFF


def dicom_slide_in(folder: Path) -> Path | None:
    """The file that stands for the slide that a folder is: the largest of a folder of DICOM files, and of nothing else.

    OpenSlide finds the others of its series beside it. Hidden files do not count.

    Raises
    ------
    InputError
        The files are of several series, so the folder is no one slide; or they cannot be read.
    """
    with input_errors(folder):
        files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    series = set()
    for path in files:
        with input_errors(path):
            own = series_of_file(path)
        if own is None:
            return None
        series.add(own)
    if len(series) > 1:
        raise InputError(
            f"{folder}: holds DICOM files of {len(series)} series; give one file of each slide, the rest of it is found"
        )
    with input_errors(folder):
        return max(files, key=lambda path: path.stat().st_size, default=None)


def series_of_file(path: Path) -> bytes | None:
    """Series of a DICOM file, empty where it has none or is of a rare encoding; None for another file.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_PREAMBLE + len(_MARK))
        if not head.endswith(_MARK) or len(head) != _PREAMBLE + len(_MARK):
            return None
        return _series_of(file.read(_HEAD_BYTES))


def file_of_slide(path: Path) -> Path:
    """The file to open of what somebody calls a slide: of a folder of one DICOM series, its file; else the path itself.

    Raises
    ------
    InputError
        As `dicom_slide_in`.
    """
    # os.path says no where pathlib raises: a name that is too long
    return (dicom_slide_in(path) if os.path.isdir(path) else None) or path  # noqa: PTH112


def _series_of(data: bytes) -> bytes:
    """Series Instance UID of a DICOM file after its mark; empty where it has none, or is of a rare encoding."""
    at, depth, is_implicit = 0, 0, False
    while at + 12 <= len(data):
        group, element = struct.unpack_from("<HH", data, at)
        if group == _ITEMS:
            (length,) = struct.unpack_from("<I", data, at + 4)
            depth += -1 if element in _ENDS else length == _UNTIL_ITS_END
            at += 8 + (0 if element in _ENDS or length == _UNTIL_ITS_END else length)
            continue
        if is_implicit and group != 0x0002:
            (length,) = struct.unpack_from("<I", data, at + 4)
            at += 8
        elif data[at + 4 : at + 6] in _LONG_KINDS:
            (length,) = struct.unpack_from("<I", data, at + 8)
            at += 12
        else:
            (length,) = struct.unpack_from("<H", data, at + 6)
            at += 8
        if length == _UNTIL_ITS_END:
            depth += 1
            continue
        value = data[at : at + length].rstrip(b"\0 ")
        if (group, element) == _TRANSFER_SYNTAX:
            is_implicit = value == _IMPLICIT
        if (group, element) == _SERIES and depth == 0:
            return value
        at += length
    return b""
