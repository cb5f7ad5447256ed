"""Dynamic load balancing of tree-shaped work over MPI ranks.

Tasks are fixed-size records. Doing tasks yields more tasks; nobody knows how many before. Each rank works off its own
queue, depth first, in batches; a rank that becomes idle steals from others; all ranks agree when nothing is left.

>>> from pyramidai_mpi.sched import Policy, run
>>> outcome = run(comm, workload, roots, policy=Policy.STEAL_HALF)  # doctest: +SKIP

The state machine (`state.RankState`) takes events and returns actions, with no clock, no MPI and no threads in it.
`loop` drives it in real time over MPI (`transport`), `simulate` under a virtual clock, and `testing.memory_cluster`
drives whole clusters of it inside one process.
"""

from __future__ import annotations

from pyramidai_mpi.sched.loop import run
from pyramidai_mpi.sched.outcome import Outcome, Stats
from pyramidai_mpi.sched.policy import Policy
from pyramidai_mpi.sched.progress import Progress
from pyramidai_mpi.sched.workload import Tasks, Workload, deal_round_robin

__all__ = ["Outcome", "Policy", "Progress", "Stats", "Tasks", "Workload", "deal_round_robin", "run"]

MAY_IMPORT = ("base", "process")
