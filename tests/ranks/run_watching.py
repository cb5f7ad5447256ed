"""Three ranks that watch each other; what rank 2 is sent gets lost."""

from __future__ import annotations

import time

from mpi4py import MPI

from pyramidai_mpi.process.beats import Beats
from pyramidai_mpi.process.watch import Limits, Watch
from pyramidai_mpi.ranks import watching

comm = MPI.COMM_WORLD
watching._PATIENCE_S = 0.2
if comm.rank == 2:
    Beats.receive = lambda self: None  # type: ignore[method-assign]
watch = Watch(f"rank {comm.rank}", limits=Limits(turn=0.1, beat=0.1, silence=1.0))
watch.mpi_has_started()
watching.watch_each_other(comm, watch)
time.sleep(3.0)
comm.Barrier()
watch.end()
if comm.rank == 0:
    print("all are through")
