"""What a process has held at most, and that freed memory goes back."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyramidai_mpi.process.memory import trim_heap

MIB = 1 << 20


def resident_bytes() -> int:
    """Memory held now, from another file of the kernel's than the one that is read for the peak."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def in_a_process(program: str) -> str:
    """What Python code prints when it runs on its own."""
    repository = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    ).stdout


# on its own: what earlier tests have left on this process's heap would serve the block without new memory
HOLD_AND_FREE = """
from pathlib import Path
import numpy as np
from pyramidai_mpi.process.memory import peak_resident_bytes
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096
before = resident()
block = np.ones(64 << 20, np.uint8)
held = resident()
del block
print(before, held, resident(), peak_resident_bytes())
"""


def test_the_peak_stays_when_memory_is_freed():
    before, held, after, peak = map(int, in_a_process(HOLD_AND_FREE).split())
    assert held - before > 60 * MIB
    assert peak > held - MIB
    assert after < held - 60 * MIB


def test_the_peak_is_not_that_of_the_process_that_started_this_one():
    program = "from pyramidai_mpi.process.memory import peak_resident_bytes; print(peak_resident_bytes())"
    block = np.ones(256 * MIB, np.uint8)
    assert 4 * MIB < int(in_a_process(program)) < 100 * MIB < len(block)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed in pieces")
def test_freed_pieces_below_one_that_is_kept_go_back():
    trim_heap()
    pieces = [np.ones(48 << 10, np.uint8) for _ in range(2000)]
    kept = pieces[-1]
    del pieces
    before = resident_bytes()
    trim_heap()
    assert before - resident_bytes() > 64 * MIB
    assert kept.all()
