"""Every collective once or twice on some ranks, in pieces of a few bytes; rank 0 prints what each rank got."""

from __future__ import annotations

import faulthandler
import json

import numpy as np
from mpi4py import MPI

from pyramidai_mpi.base.errors import InputError, PyramidError, StorageError
from pyramidai_mpi.ranks import collectives
from pyramidai_mpi.ranks.collectives import (
    agree,
    agree_on,
    all_to_all_rows,
    allgather,
    gather_records,
    on_rank0,
    ranks_alike,
    scatter_rows,
    share_bytes,
)

faulthandler.dump_traceback_later(100, exit=True)
collectives._PIECE_BYTES = 7  # no multiple of a record or a row
comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
last = size - 1
RECORD = np.dtype([("kind", "u1"), ("number", "<i4")])


def error_of(call, *arguments):
    """Class, text and whether all ranks have the error; None without one."""
    try:
        call(*arguments)
    except PyramidError as error:
        return type(error).__name__, str(error).encode(errors="surrogateescape").hex(), error.agreed
    return None


def fail():
    raise StorageError("the disk is full")


records = np.array([(rank, 10 * rank + n) for n in range(3 * rank)], RECORD)  # none on rank 0
parts = [np.full((2 * to, 3), to, np.int16) for to in range(size)] if rank == 0 else None
rows = np.array([(rank, to) for to in range(size) for _ in range(to + 1)], np.float32)
whole = gather_records(comm, records)
nothing = gather_records(comm, records[:0])
got = {
    "allgather": allgather(comm, np.array([rank, -rank])).tolist(),
    "no error": error_of(agree, comm, None),
    "last fails": error_of(agree, comm, InputError("tile \udcff is odd") if rank == last else None),
    "all fail": error_of(agree, comm, StorageError("full") if rank == 0 else InputError("odd")),
    "same": error_of(agree_on, comm, b"abc", "the model"),
    "differs": error_of(agree_on, comm, b"abc" if rank < last else b"abd", "the model"),
    "value": on_rank0(comm, lambda: "made"),
    "rank 0 fails": error_of(on_rank0, comm, fail),
    "bytes": share_bytes(comm, bytes(range(40)) if rank == last else None, root=last).hex(),
    "no bytes": share_bytes(comm, b"" if rank == 0 else None).hex(),
    "alike": ranks_alike(comm, str(rank % 2).encode()),
    "records": None if whole is None else [whole.dtype == RECORD, whole.tolist()],
    "no records": None if nothing is None else [nothing.dtype == RECORD, nothing.tolist()],
    "scattered": scatter_rows(comm, parts, np.dtype(np.int16), (3,)).tolist(),
    "exchanged": all_to_all_rows(comm, rows, [to + 1 for to in range(size)]).tolist(),
    "nothing exchanged": list(all_to_all_rows(comm, rows[:0], [0] * size).shape),
}
everyone = comm.gather(got)
if everyone is not None:
    print(json.dumps(everyone), flush=True)
