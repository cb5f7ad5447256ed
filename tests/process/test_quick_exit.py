"""Ends with a code and with all that was to be said, and without anybody's destructors or the collector."""

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


COMMAND_LINE = """
import atexit, ctypes, os, sys

class Loop:
    def __init__(self):
        self.itself = self

    def __del__(self, write=os.write):
        write(1, b"collected ")

loop = Loop()
if {with_destructor}:
    destructor = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)(lambda code, _: None)  # crashes without Python
    ctypes.CDLL(None).on_exit(destructor, None)
atexit.register(os.write, 1, b"farewell ")
sys.argv[1:] = ["digest", "nowhere.h5"]
from pyramidai_mpi.cli.main import main
main({arguments})
"""


def end_of_command_line(**how: object) -> tuple[int, str, str]:
    program = COMMAND_LINE.format(**how)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_the_command_line_leaves_its_memory_to_the_system_and_says_all_it_has_to_say() -> None:
    code, output, errors = end_of_command_line(arguments="", with_destructor=True)
    assert (code, output) == (65, "farewell ")
    assert "nowhere.h5" in errors


def test_where_mpi_is_loaded_its_handler_at_exit_runs_since_its_launcher_waits_for_it() -> None:
    program = """
import ctypes, sys
from pyramidai_mpi.process.exit import leave_memory_to_the_system

sys.modules["mpi4py.MPI"] = sys
library = ctypes.CDLL(None)
handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)(lambda code, _: print("took leave", flush=True))
library.on_exit(handler, None)
leave_memory_to_the_system()
library.exit(3)
"""
    assert output_of(program) == (3, "took leave\n")


def test_called_by_a_program_it_leaves_that_as_it_was() -> None:
    code, output, _ = end_of_command_line(arguments="sys.argv[1:]", with_destructor=False)
    assert (code, output) == (65, "farewell collected ")
