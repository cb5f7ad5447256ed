"""The seal of a result file: what makes a change of any bit show before HDF5 meets it.

HDF5 keeps texts in heaps without checksums, and its library trusts them: seen with version 2.0.0, one flipped bit there
makes it run in a circle for ever. So a finished file is followed by a trailer, which HDF5 ignores: a SHA-256 over all
bytes before it, checked before the library opens the file. Left out are the rows of feature tables, which may be most
of a large file and carry checksums of their own; the trailer says where they are.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING, BinaryIO

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import h5py

FILE_VERSIONS = ("v110", "v110")
"""HDF5 structures to write: the oldest with checksums throughout (but for texts), which HDF5 1.10 still reads."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAGIC = b"pyramidai-seal/1"
_END = struct.Struct("<Q32s16s")
"""The trailer's end: number of ranges, SHA-256, magic. Before it the ranges left out, two uint64 each."""

_RANGE = struct.Struct("<QQ")
_MOST_RANGES = 1 << 20
_BLOCK = 1 << 20


def seal_file(path: Path, left_out: Sequence[tuple[int, int]]) -> None:
    """Append the trailer to a finished file.

    Parameters
    ----------
    path
        The file, closed.
    left_out
        First and last (excluded) byte of the parts that the seal is not to cover, in any order.
    """
    ranges = _joined(left_out)
    with path.open("r+b") as file:
        length = file.seek(0, os.SEEK_END)
        seal = _seal_of(file, length, ranges)
        file.seek(length)
        file.write(_packed(ranges) + _END.pack(len(ranges), seal, _MAGIC))


def check_seal(path: Path) -> None:
    """See that a file is what was sealed, without HDF5.

    Raises
    ------
    InputError
        When it has no seal, or another than its bytes give.
    OSError
        When it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _END.size, 0))
        end = file.read()
        n_ranges, seal, magic = _END.unpack(end) if len(end) == _END.size else (0, b"", b"")
        length = size - _END.size - n_ranges * _RANGE.size
        file.seek(0)
        if file.read(len(_HDF5)) != _HDF5:
            raise InputError(f"{path}: is no HDF5 file")
        if magic != _MAGIC or length < 0 or n_ranges > _MOST_RANGES:
            raise InputError(f"{path}: is no sealed result: cut, changed after it was written, or not of this program")
        file.seek(length)
        ranges = list(_RANGE.iter_unpack(file.read(n_ranges * _RANGE.size)))
        edges = [0, *(edge for pair in ranges for edge in pair), length]
        if edges != sorted(edges) or _seal_of(file, length, ranges) != seal:
            raise InputError(f"{path}: was damaged or changed after it was written; run the analysis again")


def _seal_of(file: BinaryIO, length: int, ranges: Sequence[tuple[int, int]]) -> bytes:
    """SHA-256 over the first `length` bytes but for `ranges`, which are in order, and over these."""
    seal = hashlib.sha256(_packed(ranges))
    start = 0
    for first, last in [*ranges, (length, length)]:
        file.seek(start)
        while start < first:
            block = file.read(min(_BLOCK, first - start))
            if not block:
                raise InputError("the file was cut while it was being read")
            seal.update(block)
            start += len(block)
        start = last
    return seal.digest()


def _packed(ranges: Sequence[tuple[int, int]]) -> bytes:
    return b"".join(_RANGE.pack(*pair) for pair in ranges)


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, neighbours joined."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def rows_on_disk(table: h5py.Dataset) -> list[tuple[int, int]]:
    """First and last (excluded) byte of each chunk of a table."""
    if table.chunks is None:
        return []
    chunks: list[h5py.h5d.StoreInfo] = []
    if hasattr(table.id, "chunk_iter"):
        table.id.chunk_iter(chunks.append)  # returns when a callback returns anything
    else:  # before HDF5 1.12.3; each call walks all chunks before its own
        chunks = [table.id.get_chunk_info(i) for i in range(table.id.get_num_chunks())]
    return [(chunk.byte_offset, chunk.byte_offset + chunk.size) for chunk in chunks]
