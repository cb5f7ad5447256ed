"""One of two ranks that hold work is stopped for some seconds; two others steal.

Prints how much the others had done when it went on, as JSON on rank 0.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import time

from mpi4py import MPI

from pyramidai_mpi.sched import run
from tests.sched.uts import TreeSearch, s4_roots

faulthandler.dump_traceback_later(100, exit=True)
comm = MPI.COMM_WORLD
STOPPED, SECONDS = 1, 20
STOPPED_ROOTS = 200


class Interrupted(TreeSearch):
    def __init__(self) -> None:
        super().__init__(seconds=0.0005)
        self.went_on = 0.0
        self.done: list[tuple[float, int]] = []

    def expand(self, nodes):
        if comm.rank == STOPPED and self.nodes > 30 and not self.went_on:
            subprocess.Popen(["sh", "-c", f"sleep {SECONDS}; kill -CONT {os.getpid()}"])
            start = time.monotonic()
            os.kill(os.getpid(), signal.SIGSTOP)
            while time.monotonic() < start + SECONDS / 2:  # the signal takes a moment to arrive
                time.sleep(0.01)
            self.went_on = time.monotonic()
        children = super().expand(nodes)
        self.done.append((time.monotonic(), len(nodes)))
        return children


def size_of(roots) -> int:
    """Nodes of the subtrees of `roots`."""
    alone = TreeSearch()
    queue = [roots]
    while queue:
        children = alone.expand(queue.pop().copy())
        queue += [children] if len(children) else []
    return alone.nodes


shares = {0: s4_roots()[STOPPED_ROOTS:], STOPPED: s4_roots()[:STOPPED_ROOTS]}
work = Interrupted()
run(comm, work, shares.get(comm.rank, s4_roots()[:0]))
end = time.monotonic()
went_on = comm.bcast(work.went_on, root=STOPPED)
rows = comm.gather((work.nodes, sum(n for at, n in work.done if at < went_on), end - went_on))
if rows is not None:
    report = {
        "nodes": sum(row[0] for row in rows),
        "done_meanwhile": sum(row[1] for rank, row in enumerate(rows) if rank != STOPPED),
        "dealt_to_others": size_of(shares[0]),
        "seconds_after": max(row[2] for row in rows),
    }
    print(json.dumps(report), flush=True)
