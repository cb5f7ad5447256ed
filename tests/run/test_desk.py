"""What an owner's threads have not begun is let go of, so that whoever goes on after a loss finds no lock of ours."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from pyramidai_mpi.run.pool.desk import OwnerDesk


def test_slides_that_wait_to_be_written_are_let_go_of():
    begun, go_on, closed = threading.Event(), threading.Event(), []

    def write(slide, collected):
        begun.set()
        assert go_on.wait(30)
        collected.close()
        return

    desk = OwnerDesk(write, str)
    desk.owner = SimpleNamespace(n_stale=0, has_finished=lambda slide, end: None)
    for slide in (4, 9):
        desk.finish(slide, SimpleNamespace(close=lambda slide=slide: closed.append(slide)))
    assert begun.wait(30)
    threading.Timer(0.2, go_on.set).start()
    desk.close()
    assert closed == [4, 9]
