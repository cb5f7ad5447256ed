"""`exit` of the C library with a code, with what C had to say, and without anybody's destructors."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes
from pyramidai_mpi.process.exit import skip_destructors_at_exit

library = ctypes.CDLL(None)
destructor = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)(lambda code, _: print("destroyed", flush=True))
library.on_exit(destructor, None)
if {skip}:
    skip_destructors_at_exit()
library.printf(b"from a buffer of C\\n")
library.exit(70)
"""


def output_of(program: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_exit_skips_the_destructors_and_keeps_code_and_output() -> None:
    assert output_of(PROGRAM.format(skip=True)) == (70, "from a buffer of C\n")


def test_without_it_the_destructors_run() -> None:
    code, output = output_of(PROGRAM.format(skip=False))
    assert code == 70
    assert "destroyed" in output
