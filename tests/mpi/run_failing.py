"""Fail on one rank in a way that the command line chooses; the others would search on for long."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading

from mpi4py import MPI

from pyramidai_mpi.sched import deal_round_robin, run
from tests.sched.uts import TreeSearch, s4_roots

faulthandler.dump_traceback_later(60, exit=True)
comm = MPI.COMM_WORLD
way, culprit = sys.argv[1], int(sys.argv[2])


class Failing(TreeSearch):
    def expand(self, tasks):
        if comm.rank == culprit and self.nodes > 50:
            if way == "expand":
                raise RuntimeError("tile 17 is odd")
            if way == "children":
                return tasks["depth"]
            if way == "interrupt":
                signal.raise_signal(signal.SIGINT)
        return super().expand(tasks)

    def on_progress(self, progress):
        if way == "progress":
            raise RuntimeError("cannot draw the bar")


def stop() -> bool:
    assert threading.current_thread() is threading.main_thread()
    if way == "stop" and comm.rank == culprit:
        raise RuntimeError("cannot read the clock")
    return False


roots = deal_round_robin(s4_roots(), comm.rank, comm.size)
if way == "roots" and comm.rank == culprit:
    roots = roots["depth"]
run(comm, Failing(seconds=0.02), roots, stop=stop)
print("got through")
