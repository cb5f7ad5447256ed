"""An interrupt of `analyse` in a Python session leaves a process that can go on: no thread, no crash, no lock."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.test_damage import tissue_slide
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

CODE = """
import os, signal, sys, threading, time
import pyramidai_mpi
from pyramidai_mpi.analyses.classify import SlideClassifier
slide, model, folder = sys.argv[1:]
look, calls, sent = SlideClassifier.look, [], threading.Event()
sent.set()

def slow(self, *arguments):
    calls.append(time.monotonic())
    time.sleep(0.05)
    if len(calls) >= 3:
        sent.wait(20)  # on a busy machine the analysis would be over before the interrupt comes
    found = look(self, *arguments)  # reads the slide: whoever has closed it meanwhile would end the process
    return found

SlideClassifier.look = slow
pyramidai_mpi.analyse(slide, model, output=f"{folder}/whole.h5")
before = threading.active_count()
for number in range(8):
    calls.clear()
    sent.clear()
    def interrupt():
        while len(calls) < 1 + number % 3:
            time.sleep(0.001)
        time.sleep(0.006 * number)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)  # for the main thread to come to its turn
        sent.set()
    sender = threading.Thread(target=interrupt)
    sender.start()
    try:
        pyramidai_mpi.analyse(slide, model, output=f"{folder}/out.h5", overwrite=True)
        raise SystemExit("was not interrupted")
    except KeyboardInterrupt:
        pass
    sender.join()
    done = len(calls)
    time.sleep(0.15)
    assert len(calls) == done, "a worker goes on"
    assert threading.active_count() == before, threading.enumerate()
    assert not os.path.exists(f"{folder}/out.h5") and not os.path.exists(f"{folder}/out.h5.lock")
again = pyramidai_mpi.analyse(slide, model, output=f"{folder}/out.h5", overwrite=True)
assert again.digest == pyramidai_mpi.open_result(f"{folder}/whole.h5").digest
print("went on")
"""


def test_it_ends_neither_the_process_nor_leaves_anything_running(tmp_path: Path) -> None:
    slide = tissue_slide(tmp_path / "slide.tif")
    write_package(tmp_path / "model", side=32)
    words = [sys.executable, "-X", "faulthandler", "-c", CODE, str(slide), str(tmp_path / "model"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "went on"
