"""Too little shared memory is told before MPI is started, and ranks that start together are not counted twice."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.process.shared_memory import shared_memory_trouble

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def trouble(monkeypatch: pytest.MonkeyPatch, folder: Path, n_ranks: int, size: int, free: int) -> str:
    status = SimpleNamespace(f_frsize=1, f_blocks=size, f_bavail=free)
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    return shared_memory_trouble(n_ranks, str(folder))


@pytest.mark.parametrize(
    ("n_ranks", "size", "free", "is_enough"),
    [
        (1, 64 * MIB, 64 * MIB, True),
        (48, 64 * MIB, 2 * MIB, True),  # the other 47 have taken theirs
        (64, 64 * MIB, 64 * MIB, False),
        (1, 64 * MIB, MIB, False),
        (1, MIB, MIB, False),
        (1, 0, 0, True),  # a file system that does not tell
    ],
)
def test_what_ranks_take_together_and_one_alone(n_ranks, size, free, is_enough, monkeypatch, tmp_path) -> None:
    said = trouble(monkeypatch, tmp_path, n_ranks, size, free)
    assert (said == "") is is_enough
    assert is_enough or said.startswith(f"{tmp_path}: {n_ranks} rank")


def test_a_folder_that_is_missing_is_named(tmp_path) -> None:
    assert shared_memory_trouble(1, str(tmp_path / "shm")) == (
        f"{tmp_path / 'shm'}: is missing, or nothing can be written there"
    )
