"""A job that is ended has said why."""

from __future__ import annotations

import os
import threading
import time

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
