"""``pyramidai train``, slowed or killed: ``slowed_train.py [slow=RANK:S] [kill=RANK:N] [told=FILE] train ...``.

A slow rank sleeps S seconds in each micro-batch; one that is to die does so in its Nth. FILE gets a line a micro-batch:
the rank that has done it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pyramidai_mpi.cli.launcher import launched_rank, prepare_environment

prepare_environment()  # before torch, as the program does

from pyramidai_mpi.cli.main import main  # noqa: E402
from pyramidai_mpi.training import fitting  # noqa: E402

if __name__ == "__main__":
    begin = sys.argv.index("train")
    words = dict(word.split("=") for word in sys.argv[1:begin])
    slow, pause_s = words.get("slow", "-1:0").split(":")
    dies, number = words.get("kill", "-1:0").split(":")
    told = words.get("told")
    plain, done = fitting.MicroBatches.loss_of, []

    def loss_of(self, unit):
        """The same, later or never."""
        done.append(unit)
        if told is not None:
            with Path(told).open("a") as file:
                file.write(f"{launched_rank()}\n")
        if launched_rank() == int(slow):
            time.sleep(float(pause_s))
        if launched_rank() == int(dies) and len(done) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, unit)

    fitting.MicroBatches.loss_of = loss_of
    main(sys.argv[begin:])
