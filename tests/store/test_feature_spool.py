"""Features come back as they went in, in any order, and take no memory."""

from __future__ import annotations

import tempfile
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import StorageError
from pyramidai_mpi.store.files.feature_spool import FeatureSpool

if TYPE_CHECKING:
    from pathlib import Path


@given(st.lists(st.integers(0, 59), max_size=80), st.integers(1, 5))
def test_rows_come_back_in_the_order_asked_for(rows: list[int], width: int) -> None:
    everything = np.random.default_rng(width).random((60, width), np.float32)
    spool = FeatureSpool()
    for start in range(0, 60, 7):
        spool.append(2, everything[start : start + 7])
        spool.append(0, -everything[start : start + 7])
    wanted = np.array(rows, np.int64)
    np.testing.assert_array_equal(spool.read(2, wanted, width), everything[wanted])
    np.testing.assert_array_equal(spool.read(0, wanted, width), -everything[wanted])
    spool.close()


def test_memory_does_not_grow_with_the_features() -> None:
    spool = FeatureSpool()
    batch = np.zeros((64, 2048), np.float32)
    tracemalloc.start()
    for _ in range(100):
        spool.append(0, batch)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < batch.nbytes  # 100 batches are 52 MB
    spool.close()


def test_a_folder_that_takes_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match=r"gone.*TMPDIR"):
        FeatureSpool().append(0, np.zeros((1, 4), np.float32))
