"""A job that is ended has said why."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from subprocess import PIPE

from pyramidai_mpi.process import exit as leaving


def test_waits_until_a_slow_reader_has_taken_everything() -> None:
    reading, writing = os.pipe()
    taken = []

    def read_late() -> None:
        time.sleep(0.3)
        taken.append(os.read(reading, 100))

    reader = threading.Thread(target=read_late)
    with os.fdopen(writing, "w") as stream:
        stream.write("why")
        stream.flush()
        reader.start()
        leaving.wait_until_read(stream)
        assert taken == [b"why"]
    reader.join()
    os.close(reading)


def test_a_reader_that_never_reads_is_not_waited_for_forever(monkeypatch) -> None:
    monkeypatch.setattr(leaving, "PATIENCE_S", 0.1)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        stream.write("why")
        stream.flush()
        leaving.wait_until_read(stream)
    assert os.read(reading, 100) == b"why"
    os.close(reading)


def test_what_is_no_pipe_is_not_waited_for(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(leaving.time, "sleep", lambda _: (_ for _ in ()).throw(AssertionError("waited")))
    with (tmp_path / "log").open("w") as stream:
        stream.write("why")
        leaving.wait_until_read(stream)
    leaving.wait_until_read(None)


ASKING = """
import sys
from pyramidai_mpi.process.exit import speaks_for_its_job
print(speaks_for_its_job(), flush=True)
sys.stdin.read()
"""


def test_of_the_children_of_one_process_one_speaks_and_when_it_has_gone_another_may() -> None:
    with ExitStack() as ends:
        children = [
            ends.enter_context(subprocess.Popen([sys.executable, "-c", ASKING], stdin=PIPE, stdout=PIPE, text=True))
            for _ in range(3)
        ]
        assert sorted(child.stdout.readline() for child in children) == ["False\n", "False\n", "True\n"]
    alone = subprocess.run([sys.executable, "-c", ASKING], input="", capture_output=True, text=True, check=True)
    assert alone.stdout == "True\n"
