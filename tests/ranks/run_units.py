"""Units of work on these ranks; prints one line of JSON a rank, in rank order."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from mpi4py import MPI

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.ranks.collectives import gather_messages
from pyramidai_mpi.ranks.unit_pool import PoolStoppedError, UnitPool
from pyramidai_mpi.sched import Policy

comm = MPI.COMM_WORLD


def term(number: int) -> list[np.ndarray]:
    """What unit `number` adds; every third takes its time."""
    if number % 3 == comm.rank % 3:
        time.sleep(0.002)
    return [np.random.default_rng(number).normal(size=4).astype(np.float32), np.array([1.0])]


def rows(number: int) -> np.ndarray:
    """Rows of unit `number`, among them the bits of -0.0 and NaN."""
    return np.array([[number, -0.0], [np.nan, -number]], np.float32)[: number % 3]


def failing(number: int) -> None:
    """Fail in two units."""
    if number in {5, 6}:
        raise InputError(f"unit {number} cannot be read")


found: dict[str, object] = {}
for policy in Policy:
    pool = UnitPool(comm, policy=policy)
    sums, count = pool.sums(23, term, {"x": 4, "n": 1})
    found[policy] = [sums.tobytes().hex(), count.tolist()]
pool = UnitPool(comm)
counts = [number % 3 for number in range(11)]
found["rows"] = pool.rows(counts, rows, np.float32, (2,)).tobytes().hex()
on_first = pool.rows(counts, rows, np.float32, (2,), on_all=False)
found["rows on rank 0"] = on_first.tobytes().hex() if comm.rank == 0 else None
found["no units"] = [part.tolist() for part in pool.sums(0, term, {"x": 4, "n": 1})]
found["units"] = pool.units
try:
    pool.do(9, failing)
except InputError as error:
    found["error"] = [str(error).partition(" (")[0], error.agreed]
asked = iter(range(10**9))
try:
    # the last rank is told to stop
    UnitPool(comm, stop=lambda: comm.rank == comm.size - 1 and next(asked) > 2).do(10_000, lambda _: time.sleep(0.001))
except PoolStoppedError:
    found["stopped"] = True
found["goes on"] = pool.rows([1] * 5, lambda number: np.array([number]), np.int64).tolist()
everyone = gather_messages(comm, [json.dumps(found).encode()])
if comm.rank == 0:
    sys.stdout.write(f"[{','.join(message.decode() for message in everyone)}]")
