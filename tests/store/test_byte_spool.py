"""Bytes come back from the disk as they were appended; a disk that takes no more is an error in a line."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.base.errors import StorageError
from pyramidai_mpi.store.files import byte_spool
from pyramidai_mpi.store.files.byte_spool import ByteSpool


def test_bytes_come_back_in_any_order_and_nothing_has_a_name(tmp_path):
    rng = np.random.default_rng(0)
    pieces = [rng.bytes(int(length)) for length in rng.integers(0, 3000, 50)]
    places = np.cumsum([0, *(len(piece) for piece in pieces)])
    with ByteSpool(tmp_path) as spool:
        for first in range(0, 50, 7):
            spool.append(b"".join(pieces[first : first + 7]))
        for number in rng.permutation(50):
            assert spool.read(int(places[number]), len(pieces[number])) == pieces[number]
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(StorageError):
            spool.read(int(places[-1]) - 1, 2)


def test_a_full_disk_and_a_folder_that_is_not_there_are_named(tmp_path, monkeypatch):
    with pytest.raises(StorageError, match="nowhere: cannot keep pictures there"):
        ByteSpool(tmp_path / "nowhere")

    def pwrite(descriptor, data, place):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(byte_spool.os, "pwrite", pwrite)
    with ByteSpool(tmp_path) as spool, pytest.raises(StorageError, match="No space left on device; make room"):
        spool.append(b"abc")
