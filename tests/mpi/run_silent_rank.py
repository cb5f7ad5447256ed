"""One of three ranks stops for good; nobody tells the others."""

from __future__ import annotations

import os
import signal

from mpi4py import MPI

from pyramidai_mpi.sched import deal_round_robin, loop, run
from tests.sched.uts import TreeSearch, s4_roots

loop.MOST_SILENCE_S = 2.0
comm = MPI.COMM_WORLD


class Stopping(TreeSearch):
    def expand(self, nodes):
        if comm.rank == 1 and self.nodes > 30:
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().expand(nodes)


run(comm, Stopping(seconds=0.0005), deal_round_robin(s4_roots(), comm.rank, comm.size))
