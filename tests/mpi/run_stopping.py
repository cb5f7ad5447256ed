"""Search S4 in two runs: the first is stopped on one rank, the second does what the first left."""

from __future__ import annotations

import faulthandler
import sys
import time

from mpi4py import MPI

from pyramidai_mpi.sched import Policy, deal_round_robin, run
from tests.sched.uts import TreeSearch, s4_roots

faulthandler.dump_traceback_later(100, exit=True)
comm = MPI.COMM_WORLD
policy, stopper = Policy(sys.argv[1]), int(sys.argv[2])
start = time.monotonic()
slow = TreeSearch(seconds=0.002)
first = run(
    comm,
    slow,
    deal_round_robin(s4_roots(), comm.rank, comm.size),
    policy,
    stop=lambda: comm.rank == stopper and time.monotonic() > start + 0.3,
)
fast = TreeSearch()
second = run(comm, fast, first.unfinished, policy)
counts = comm.gather((slow.nodes, fast.nodes, first.stopped, second.stopped, len(second.unfinished)))
if counts is not None:
    before, after = sum(c[0] for c in counts), sum(c[1] for c in counts)
    print(f"{before + after} {before > 0} {after > 0} {[c[2] for c in counts]} {[c[3:] for c in counts]}")
