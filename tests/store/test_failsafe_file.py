"""HDF5 writes through it as through any file; a disk that fails is one error in the end and no crash."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from pyramidai_mpi.store.results.failsafe_file import FailsafeFile, written_hdf5

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.random.default_rng(1).integers(0, 1000, (5000, 3))


def fill(path: Path) -> None:
    with written_hdf5(path, "w") as file:
        file.create_dataset("a/rows", data=ROWS, chunks=(512, 3), compression="gzip")
        file.attrs["name"] = "first"
    with written_hdf5(path, "r+") as file:
        file["a/rows"][17] = -1
        file["b"] = ROWS[:10]
        file.attrs["name"] = "second"


def test_what_is_written_is_what_h5py_reads(tmp_path: Path) -> None:
    fill(tmp_path / "a.h5")
    expected = ROWS.copy()
    expected[17] = -1
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["a/rows"][...], expected)
        np.testing.assert_array_equal(file["b"][...], ROWS[:10])
        assert file.attrs["name"] == "second"


def test_it_behaves_like_a_file(tmp_path: Path) -> None:
    failsafe = FailsafeFile(tmp_path / "failsafe", "w")
    with (tmp_path / "plain").open("w+b", buffering=0) as plain:
        for file in (failsafe, plain):
            file.write(b"0123456789")
            file.seek(4)
            file.write(b"abc")
            file.seek(-3, os.SEEK_END)
            assert file.read(2) == b"78"
            assert file.tell() == 9
            file.truncate(8)
            file.seek(0, os.SEEK_END)
            assert file.tell() == 8
            file.seek(1)
            file.seek(1, os.SEEK_CUR)
            assert file.read() == b"23abc7"
    failsafe.close()
    failsafe.raise_error()
    assert (tmp_path / "failsafe").read_bytes() == (tmp_path / "plain").read_bytes()


FAIL = """
import errno, os, sys
from pathlib import Path
import h5py
from tests.store.test_failsafe_file import fill
real, left = os.pwrite, int(sys.argv[2])
def pwrite(*words):
    global left
    left -= 1
    if left < 0:
        raise OSError(errno.ENOSPC, "No space left on device")
    return real(*words)
os.pwrite = pwrite
try:
    fill(Path(sys.argv[1]))
except OSError as error:
    print(error.errno, left < 0)
else:
    print("written", left)
"""


def test_whichever_write_fails_there_is_one_error_and_the_process_ends_well(tmp_path: Path) -> None:
    def run(writes: int) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", FAIL, tmp_path / "a.h5", str(writes)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), done.stderr

    written, _ = run(1000)
    n_writes = 1000 - int(written.split()[1])
    assert n_writes > 10
    for writes in (0, 1, n_writes // 2, n_writes - 1):
        assert run(writes) == (f"{errno.ENOSPC} True", "")


def test_an_error_of_the_caller_passes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), written_hdf5(tmp_path / "a.h5", "w") as file:
        file["a"] = 1 / 0
