"""``pyramidai train`` with ranks that are slow or die: ``slowed_train.py [slow=RANK:S] [kill=RANK:N] train ...``.

A slow rank sleeps S seconds in each micro-batch; one that is to die does so in its Nth.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from pyramidai_mpi.cli.launcher import launched_rank, prepare_environment

prepare_environment()  # before torch, as the program does

from pyramidai_mpi.cli.main import main  # noqa: E402
from pyramidai_mpi.training import fitting  # noqa: E402

if __name__ == "__main__":
    begin = sys.argv.index("train")
    words = dict(word.split("=") for word in sys.argv[1:begin])
    slow, pause_s = words.get("slow", "-1:0").split(":")
    dies, number = words.get("kill", "-1:0").split(":")
    plain, done = fitting.MicroBatches.loss_of, []

    def loss_of(self, unit):
        """The same, later or never."""
        done.append(unit)
        if launched_rank() == int(slow):
            time.sleep(float(pause_s))
        if launched_rank() == int(dies) and len(done) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, unit)

    fitting.MicroBatches.loss_of = loss_of
    main(sys.argv[begin:])
