"""Hashes of slides: the quick one that tells one from another, and the full one against silent changes of a bit."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import PyramidError, input_errors
from pyramidai_mpi.base.patch_order import is_patch_file

if TYPE_CHECKING:
    from pathlib import Path

_MIB = 1 << 20
_BLOCK = 1 << 16
_BLOCKS = 64


def quickhash(path: Path) -> str:
    """SHA-256 over the file size, its first and last MiB and 64 blocks of 64 KiB at even spacing.

    Parameters
    ----------
    path
        The slide's (main) file.

    Returns
    -------
    str
        64 hexadecimal digits. The size enters as 8 bytes, little-endian; block i starts at
        ``i * (size - 65536) // 63`` (0 for files smaller than a block).
    """
    size = path.stat().st_size
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        digest.update(file.read(_MIB))
        file.seek(max(size - _MIB, 0))
        digest.update(file.read(_MIB))
        for block in range(_BLOCKS):
            file.seek(max(size - _BLOCK, 0) * block // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def slide_quickhash(path: Path) -> str:
    """Quick hash of a slide; where a file of patches stands for it, that of the slide which they were taken from.

    Raises
    ------
    InputError
        When it is an HDF5 file and no file of patches.
    """
    if not is_patch_file(path):
        return quickhash(path)
    from pyramidai_mpi.store.patches.reader import PatchFile

    with PatchFile(path) as file:
        return file.header.slide.quickhash


class FullHash:
    """SHA-256 over a whole slide file, computed in a thread of its own while other things go on.

    Parameters
    ----------
    path
        The slide's (main) file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = ""
        self._error: PyramidError | None = None
        # a daemon: a run that fails does not wait for it
        self._thread = threading.Thread(target=self._read, name="slide-sha256", daemon=True)
        self._thread.start()

    def result(self) -> str:
        """Wait for the hash, 64 hexadecimal digits.

        Raises
        ------
        InputError, StorageError
            When the file cannot be read to its end.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._hash

    def _read(self) -> None:
        try:
            with input_errors(self._path), self._path.open("rb") as file:
                self._hash = hashlib.file_digest(file, "sha256").hexdigest()
        except PyramidError as error:
            self._error = error
