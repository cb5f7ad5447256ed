"""Local disks are told from those of other machines by what the system has mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyramidai_mpi.process import mounts


@pytest.mark.parametrize(
    ("kind", "expected"), [("ext4", True), ("xfs", True), ("tmpfs", True), ("nfs4", False), ("lustre", False)]
)
def test_the_kind_of_the_mount_decides(kind, expected, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("")
    device = path.stat().st_dev
    line = f"36 35 {os.major(device)}:{os.minor(device)} / {tmp_path} rw,noatime shared:1 - {kind} server:/x rw\n"
    table = tmp_path / "mountinfo"
    table.write_text(f"35 1 98:76543 / /other rw - {'nfs4' if expected else 'ext4'} /dev/a rw\n" + line)
    monkeypatch.setattr(mounts, "_MOUNTS", table)
    with path.open() as file:
        assert mounts.is_on_local_disk(file.fileno()) == expected


@pytest.mark.parametrize("table", ["", "36 35 98:76543 / /other rw - ext4 /dev/a rw\n", None])
def test_what_is_not_told_counts_as_far_away(table, tmp_path, monkeypatch):
    path = tmp_path / "mountinfo"
    if table is not None:
        path.write_text(table)
    monkeypatch.setattr(mounts, "_MOUNTS", path)
    with Path(__file__).open() as file:
        assert not mounts.is_on_local_disk(file.fileno())
