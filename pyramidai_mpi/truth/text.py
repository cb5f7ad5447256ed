"""The text of an annotation file, gzipped or not, as far as it is of any sensible size."""

from __future__ import annotations

import gzip
import zlib
from typing import IO, TYPE_CHECKING, cast

from pyramidai_mpi.base.errors import InputError, input_errors

if TYPE_CHECKING:
    from pathlib import Path

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20

_MOST_BYTES = 256 << 20
"""CAMELYON16's outlines of all slides are a tenth of this; parsed, a text takes up to ten times its size."""


def read_text(path: Path) -> bytes:
    """The bytes of a text file, unpacked where they are gzip's, whatever the file is called.

    Raises
    ------
    InputError
        When it cannot be read or unpacked, or is, unpacked, larger than annotations are: 2 MB of gzip may hold 2 GB.
    """
    text = bytearray()
    with input_errors(path), path.open("rb") as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        with cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if is_packed else file as stream:
            while block := _block_of(stream, path):
                text += block
                if len(text) > _MOST_BYTES:
                    raise InputError(
                        f"{path}: holds more than {_MOST_BYTES >> 20} MiB of text, far more than annotations take; "
                        "export the annotations alone, without detections and cells"
                    )
    return bytes(text)


def _block_of(stream: IO[bytes], path: Path) -> bytes:
    try:
        return stream.read(_BLOCK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}); export the annotations again") from error
