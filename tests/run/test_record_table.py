"""Records that grow in number are those that came, in their order, in little more memory than their own."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pyramidai_mpi.base.types import prediction_dtype
from pyramidai_mpi.run.pool.record_table import RecordTable

RECORD = prediction_dtype(2)


def batches(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.frombuffer(rng.bytes(n * RECORD.itemsize), RECORD) for n in lengths]


@pytest.mark.parametrize("lengths", [[], [0], [1], [3, 0, 5000, 1, 1], [16] * 500])
def test_rows_are_those_that_came_in_their_order(lengths: list[int]) -> None:
    table, came = RecordTable(RECORD), batches(lengths)
    for n, records in enumerate(came):
        table.append(records)
        assert len(table) == sum(lengths[: n + 1])
    assert table.rows.dtype == RECORD
    assert table.rows.tobytes() == b"".join(records.tobytes() for records in came)


def test_small_batches_take_hardly_more_than_their_bytes() -> None:
    n, batch = 20_000, batches([16])[0]
    tracemalloc.start()
    try:
        table = RecordTable(RECORD)
        for _ in range(n):
            table.append(batch)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # an array of its own takes 112 bytes beside its records, the list's reference 8
    assert n * 16 * RECORD.itemsize < held < 1.15 * n * 16 * RECORD.itemsize


def test_rows_that_somebody_holds_are_never_pulled_away_from_under_him() -> None:
    table = RecordTable(RECORD)
    table.append(batches([1])[0])
    held = table.rows
    with pytest.raises(ValueError, match="cannot resize"):
        table.append(batches([5000])[0])
    assert held.tobytes() == batches([1])[0].tobytes()
