"""The real command in which a bit of a message flips: run_flipping.py RANK CALL BIT ARGUMENTS...

The CALL-th message that rank RANK takes, counted from 1, arrives with bit BIT (modulo its length) changed.
"""

from __future__ import annotations

import sys

import mpi4py

mpi4py.rc.thread_level = "funneled"

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.cli.main import main  # noqa: E402
from pyramidai_mpi.sched import transport  # noqa: E402


def plant(call: int, bit: int) -> None:
    real, calls = transport.unsealed, 0

    def flipped(data: bytearray, source: int) -> bytearray:
        nonlocal calls
        calls += 1
        if calls == call:
            at = bit % (8 * len(data))
            data[at // 8] ^= 1 << at % 8
        return real(data, source)

    transport.unsealed = flipped


if __name__ == "__main__":
    if MPI.COMM_WORLD.rank == int(sys.argv[1]):
        plant(int(sys.argv[2]), int(sys.argv[3]))
    main(sys.argv[4:])
