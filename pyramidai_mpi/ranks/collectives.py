"""Bringing what the ranks hold together, and agreeing on errors: collectives without pickle.

Every function is collective over `comm`: all ranks call it, whatever they hold. Large arrays travel in bounded pieces,
so no MPI count limit is met and rank 0 needs no second copy. Ranks wait asleep: a blocking call would poll, and take
the cores from the rank that all wait for when ranks share them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pyramidai_mpi.base.errors import ERROR_OF_EXIT_CODE, InputError, PyramidError
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.sched.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

T = TypeVar("T")

_PIECE_BYTES = 64 << 20


def wait_for(comm: MPI.Intracomm, request: MPI.Request) -> None:
    """Wait asleep for a request that all ranks of `comm` have made together."""
    try:
        wait_until(request.Test)
    except Exception as failure:
        from pyramidai_mpi.sched.transport import call_it_a_loss

        call_it_a_loss(comm, failure)
        raise


def allgather(comm: MPI.Intracomm, own: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Every rank's (n,) integers on every rank, int64 (ranks, n). Collective."""
    everyone = np.empty((comm.size, len(own)), np.int64)
    wait_for(comm, comm.Iallgather(own.astype(np.int64), everyone))
    return everyone


def agree(comm: MPI.Intracomm, error: PyramidError | None, *, all_tried: bool = True) -> None:
    """Raise on all ranks when any rank has an error; the lowest such rank's message counts.

    So no rank goes on to a collective that another one has left, and all leave with the same exit code. What not all
    ranks have met names the rank and its host.

    Parameters
    ----------
    all_tried
        False when rank 0 has acted for all.

    Raises
    ------
    PyramidError
        Of the class that the failing rank had.
    """
    codes = allgather(comm, np.array([error.exit_code if error else 0]))[:, 0]
    failing = np.flatnonzero(codes)
    if not len(failing):
        return
    first = int(failing[0])
    is_shared = first == 0 and (not all_tried or len(failing) == comm.size)
    text = str(error) if is_shared else f"{error} (rank {first}, host {host_name()})"
    # whatever stands for bytes that are no UTF-8, or came out of a damaged file, arrives as it is
    shared = share_bytes(comm, text.encode(errors="surrogatepass") if comm.rank == first else None, root=first)
    message = shared.decode(errors="surrogatepass")
    agreed = ERROR_OF_EXIT_CODE[int(codes[first])](message)
    agreed.agreed = True
    raise agreed from error


def on_rank0(comm: MPI.Intracomm, action: Callable[[], T]) -> T | None:
    """Do something on rank 0 alone; all ranks learn whether it worked. Collective.

    Returns
    -------
    T or None
        The action's result on rank 0, None on the others.

    Raises
    ------
    PyramidError
        On all ranks, when the action raised one on rank 0.
    """
    value, error = None, None
    if comm.rank == 0:
        try:
            value = action()
        except PyramidError as caught:
            error = caught
    agree(comm, error, all_tried=False)
    return value


def on_all(comm: MPI.Intracomm, action: Callable[[], T]) -> T:
    """Do something on every rank; all learn whether it worked everywhere. Collective.

    Raises
    ------
    PyramidError
        On all ranks, when the action raised one on any.
    """
    value, error = None, None
    try:
        value = action()
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    return value  # type: ignore[return-value]  # there, as there was no error


def share_bytes(comm: MPI.Intracomm, data: bytes | None, root: int = 0) -> bytes:
    """The root's bytes on every rank; the others pass None."""
    length = np.array([len(data) if data is not None else 0], np.int64)
    wait_for(comm, comm.Ibcast(length, root))
    buffer = np.empty(int(length[0]), np.uint8)
    if data is not None:
        buffer[:] = np.frombuffer(data, np.uint8)
    for start in range(0, len(buffer), _PIECE_BYTES):
        wait_for(comm, comm.Ibcast(buffer[start : start + _PIECE_BYTES], root))
    return buffer.tobytes()


def agree_on(comm: MPI.Intracomm, fingerprint: bytes, what: str) -> None:
    """Raise on all ranks when any rank's fingerprint is not that of most. Collective.

    Raises
    ------
    InputError
        Names the rank and host that differ.
    """
    usual, is_usual = usual_rank(comm, fingerprint)
    if usual is not None:
        host = share_bytes(comm, host_name().encode() if comm.rank == usual else None, root=usual).decode()
        agree(comm, None if is_usual else other_files(what, host))


def other_files(what: str, first_host: str) -> InputError:
    """Say that this host has another file of a name than host `first_host`."""
    return InputError(
        f"{what} is another one on host {host_name()} than on host {first_host}; give all hosts the same files"
    )


def usual_rank(comm: MPI.Intracomm, trait: bytes) -> tuple[int | None, bool]:
    """Lowest of the ranks that have what most have, None where all have the same; and whether the caller has it.

    Collective. Of two traits that are as frequent, the lower ranks' is the usual one.
    """
    everyone = allgather(comm, np.array([_mark(trait)]))[:, 0]
    _, firsts, counts = np.unique(everyone, return_index=True, return_counts=True)
    usual = int(firsts[counts == counts.max()].min())
    return None if len(counts) == 1 else usual, bool(everyone[usual] == everyone[comm.rank])


def _mark(trait: bytes) -> int:
    return int.from_bytes(hashlib.sha256(trait).digest()[:8], "little", signed=True)


def ranks_alike(comm: MPI.Intracomm, trait: bytes) -> list[int]:
    """Ranks that have the caller's trait, the caller among them, in order. Collective."""
    own = _mark(trait)
    return [int(rank) for rank in np.flatnonzero(allgather(comm, np.array([own]))[:, 0] == own)]


def gather_records(comm: MPI.Intracomm, records: npt.NDArray[np.void]) -> npt.NDArray[np.void] | None:
    """Concatenate the ranks' records on rank 0, in rank order; None on the others.

    Parameters
    ----------
    records
        (N,) of one packed structured dtype on all ranks, N may differ and be 0.
    """
    counts = allgather(comm, np.array([len(records)]))[:, 0]
    if comm.rank != 0:
        for piece in _pieces(records):
            wait_until(comm.Isend(piece, dest=0).Test)
        return None
    everything = np.empty(int(counts.sum()), records.dtype)
    everything[: len(records)] = records
    end = len(records)
    for source in range(1, comm.size):
        for piece in _pieces(everything[end : end + int(counts[source])]):
            wait_until(comm.Irecv(piece, source=source).Test)
        end += int(counts[source])
    return everything


def gather_messages(comm: MPI.Intracomm, messages: Sequence[bytes]) -> list[bytes]:
    """All ranks' messages on rank 0, in rank order; none on the others. Collective."""
    gathered = _gathered(comm, messages)
    return [] if gathered is None else _unpacked(gathered)


def share_messages(comm: MPI.Intracomm, messages: Sequence[bytes]) -> list[bytes]:
    """All ranks' messages on all ranks, in rank order. Collective."""
    return _unpacked(share_bytes(comm, _gathered(comm, messages)))


def _gathered(comm: MPI.Intracomm, messages: Sequence[bytes]) -> bytes | None:
    packed = b"".join(len(message).to_bytes(8, "little") + message for message in messages)
    everything = gather_records(comm, np.frombuffer(packed, np.dtype([("byte", "u1")])))
    return None if everything is None else everything.tobytes()


def _unpacked(rest: bytes) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at < len(rest):
        end = at + 8 + int.from_bytes(rest[at : at + 8], "little")
        found.append(rest[at + 8 : end])
        at = end
    return found


def scatter_rows(
    comm: MPI.Intracomm,
    parts: Sequence[npt.NDArray[np.generic]] | None,
    dtype: np.dtype[np.generic],
    row_shape: tuple[int, ...],
) -> npt.NDArray[np.generic]:
    """One part of rank 0's rows to each rank, in rank order.

    Parameters
    ----------
    parts
        On rank 0 one array (n_r, ...) for each rank; None on the others.
    dtype, row_shape
        Of the rows, known to all ranks.
    """
    counts = np.zeros(comm.size, np.int64)
    if parts is not None:
        counts[:] = [len(part) for part in parts]
    wait_for(comm, comm.Ibcast(counts, 0))
    if parts is not None:
        for dest in range(1, comm.size):
            for piece in _pieces(np.ascontiguousarray(parts[dest])):
                wait_until(comm.Isend(piece, dest=dest).Test)
        return np.ascontiguousarray(parts[0])
    rows = np.empty((int(counts[comm.rank]), *row_shape), dtype)
    for piece in _pieces(rows):
        wait_until(comm.Irecv(piece, source=0).Test)
    return rows


def all_to_all_rows(
    comm: MPI.Intracomm, rows: npt.NDArray[np.generic], counts: Sequence[int]
) -> npt.NDArray[np.generic]:
    """Exchange rows between all ranks. Collective.

    Parameters
    ----------
    rows
        (n, width) on each rank, same type and width; the first ``counts[0]`` rows go to rank 0, and so on.
    counts
        Rows for each rank. What one rank sends or receives must stay below 2 GiB.

    Returns
    -------
    numpy.ndarray
        (m, width): what the ranks sent here, in rank order.
    """
    outgoing = np.asarray(counts, np.int64)
    incoming = np.empty(comm.size, np.int64)
    wait_for(comm, comm.Ialltoall(outgoing, incoming))
    received = np.empty((int(incoming.sum()), rows.shape[1]), rows.dtype)
    row_bytes = rows.shape[1] * rows.itemsize
    request = comm.Ialltoallv(
        [np.ascontiguousarray(rows).reshape(-1).view(np.uint8), outgoing * row_bytes],
        [received.reshape(-1).view(np.uint8), incoming * row_bytes],
    )
    wait_for(comm, request)
    return received


def _pieces(array: npt.NDArray[np.generic]) -> list[npt.NDArray[np.uint8]]:
    """The array's bytes in bounded views; the same cut on both sides of a transfer."""
    raw = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
    return [raw[start : start + _PIECE_BYTES] for start in range(0, len(raw), _PIECE_BYTES)]
