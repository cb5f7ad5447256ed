"""What was done of a slide is booked on the ranks that did it, by level and by phase."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.analyses.base import FAILED_DTYPE, Seconds
from pyramidai_mpi.base.types import Mode, prediction_dtype
from pyramidai_mpi.pyramid.ledger import TileLedger
from pyramidai_mpi.run.pool.messages import Batch
from pyramidai_mpi.run.pool.owner import Collected
from pyramidai_mpi.run.pool.record_table import RecordTable
from pyramidai_mpi.store.files.feature_spool import FeatureSpool
from tests.trees import rule_of


def batch(level: int, n_tiles: int, start_s: float, seconds: Seconds) -> Batch:
    records = np.zeros(n_tiles, prediction_dtype(2))
    records["level"] = level
    return Batch(records, np.zeros(0, FAILED_DTYPE), None, start_s, start_s + 2 * sum(seconds), 0.125, seconds)


def test_time_is_booked_by_rank_level_and_phase() -> None:
    rule = rule_of(np.ones((8, 8), bool))
    ledger = TileLedger(rule.grid, rule.first_tiles(Mode.PYRAMID), lambda records: rule.children(records))
    collected = Collected(None, ledger, 0.0, FeatureSpool(), RecordTable(prediction_dtype(2)))  # type: ignore[arg-type]  # of no slide
    collected.credit(3, batch(0, 5, 7.0, Seconds(1.0, 0.5, 0.25)))
    collected.credit(3, batch(2, 4, 1.0, Seconds(2.0, 0.0, 1.0)))
    collected.credit(0, batch(2, 1, 2.0, Seconds(0.5, 0.5, 0.5)))
    assert set(collected.work) == {0, 3}
    done = collected.work[3]
    assert (done["tasks"], done["batches"]) == (9, 2)
    assert (done["read_s"], done["stain_s"], done["infer_s"], done["journal_s"]) == (3.0, 0.5, 1.25, 0.25)
    assert done["busy_s"] == 2 * 4.75
    assert done["level_s"].nonzero()[0].tolist() == [0, 2]
    assert done["level_s"].sum() == pytest.approx(3.0 + 0.5 + 1.25)
    batches = [batch[:4] for batch in collected.all_batches().tolist()]
    assert batches == [(0, 2, 1, 2.0), (3, 2, 4, 1.0), (3, 0, 5, 7.0)]  # by rank, then by start
