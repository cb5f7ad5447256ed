"""A timer of the system's comes to its turn whatever the interpreter does."""

from __future__ import annotations

import subprocess
import sys

STANDING_STILL = """
import ctypes
from pyramidai_mpi.process.system_timer import SystemTimer
timer = SystemTimer("_exit", 70)
timer.set(0.2)
{then}
ctypes.PyDLL(None).sleep({seconds})  # keeps the interpreter's lock
"""


def run(seconds: int, then: str = "") -> int:
    program = STANDING_STILL.format(seconds=seconds, then=then)
    return subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode


def test_it_ends_a_process_that_stands_still_within_a_library() -> None:
    assert run(50) == 70


def test_one_that_was_taken_back_does_nothing() -> None:
    assert run(1, "timer.set(0)") == 0
