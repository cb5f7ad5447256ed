"""The real command that is told to stop while only audits are left: run_stopped_audit.py RANK ARGUMENTS..."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import mpi4py

mpi4py.rc.thread_level = "funneled"

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.cli.main import main  # noqa: E402
from pyramidai_mpi.run.pool.audits_end import AuditsEnd  # noqa: E402

if __name__ == "__main__":
    if MPI.COMM_WORLD.rank == int(sys.argv[1]):
        real = AuditsEnd.go_on

        def go_on(self: Any) -> None:
            if not self.is_idle:
                os.kill(os.getpid(), signal.SIGTERM)
            real(self)

        AuditsEnd.go_on = go_on
    main(sys.argv[2:])
