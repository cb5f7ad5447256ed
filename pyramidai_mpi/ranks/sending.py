"""Files from one rank's disk to those of others: in pieces, with bounded memory, and compared by SHA-256."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager, suppress
from itertools import count
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from pyramidai_mpi.base.errors import InputError, PyramidError, StorageError, input_errors
from pyramidai_mpi.ranks.collectives import allgather, wait_for

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from mpi4py import MPI

PIECE_BYTES = 4 << 20
"""What a rank holds of a file at a time."""
_PIECES_BETWEEN_LOOKS = 64
_FAILED = -1


@contextmanager
def among(comm: MPI.Intracomm, members: Collection[int]) -> Iterator[MPI.Intracomm | None]:
    """A communicator of some ranks, in the same order; None on the others. Collective over all."""
    own = cast("MPI.Intracomm", comm.Split(int(comm.rank in members), comm.rank))
    yield own if comm.rank in members else None
    own.Free()


def spread_file(comm: MPI.Intracomm, root: int, source: Path | None, target: Path | None) -> PyramidError | None:
    """Send a file of one rank's to all others, which flush it to their disks. Collective.

    Who cannot write goes on taking part, so that nobody waits for it; all stop within 256 MiB.

    Parameters
    ----------
    source
        On rank `root`, the file.
    target
        On the others, a name that nothing has yet; what is there after an error is not whole.

    Returns
    -------
    PyramidError or None
        What went wrong on this rank, for all to agree on: `InputError` where it cannot be read, `StorageError` where it
        cannot be written or is not what was sent.
    """
    error: PyramidError | None = None
    file: IO[bytes] | None = None
    digest = hashlib.sha256()
    try:
        if source is not None:
            with input_errors(source):
                file = source.open("rb")
        elif target is not None:
            file = target.open("xb", buffering=0)
    except PyramidError as failure:
        error = failure
    except OSError as failure:
        error = _not_written(target, failure)
    try:
        for number in count(1):
            piece, length = _next_piece(comm, root, file, source)
            if length == _FAILED:
                return error or InputError(f"{source or target}: could not be read where it was to be sent from")
            digest.update(piece)
            if comm.rank != root and file is not None and error is None:
                try:
                    _write(file, piece)
                except OSError as failure:
                    error = _not_written(target, failure)
            if length == 0:
                break
            if number % _PIECES_BETWEEN_LOOKS == 0 and allgather(comm, np.array([error is not None])).any():
                return error
        whole = np.frombuffer(digest.digest(), np.uint8).copy()
        wait_for(comm, comm.Ibcast(whole, root))
        if error is None and whole.tobytes() != digest.digest():
            error = StorageError(f"{target}: is not what was sent; see to memory and network, and start again")
        if error is None and comm.rank != root and file is not None:
            error = _flushed(file, target)
        return error
    finally:
        if file is not None:
            with suppress(OSError):  # of what was not written; a file that is whole was flushed
                file.close()


def _next_piece(comm: MPI.Intracomm, root: int, file: IO[bytes] | None, source: Path | None) -> tuple[memoryview, int]:
    """The next piece on all ranks, and its length: 0 at the end, -1 where it cannot be read. Collective."""
    piece, length = np.empty(PIECE_BYTES, np.uint8), np.zeros(1, np.int64)
    if comm.rank == root:
        length[0] = _FAILED
        if file is not None and source is not None:
            try:
                length[0] = file.readinto(piece.data)  # type: ignore[attr-defined]  # of a binary file
            except OSError:
                length[0] = _FAILED
    wait_for(comm, comm.Ibcast(length, root))
    if length[0] > 0:
        wait_for(comm, comm.Ibcast(piece[: length[0]], root))
    return piece[: max(0, int(length[0]))].data, int(length[0])


def _write(file: IO[bytes], piece: memoryview) -> None:
    while piece:
        piece = piece[file.write(piece) :]


def _flushed(file: IO[bytes], target: Path | None) -> StorageError | None:
    try:
        os.fsync(file.fileno())
    except OSError as failure:
        return _not_written(target, failure)
    return None


def _not_written(target: Path | None, failure: OSError) -> StorageError:
    return StorageError(
        f"{target}: cannot be written: {failure.strerror or failure}; make room, or name another folder"
    )
