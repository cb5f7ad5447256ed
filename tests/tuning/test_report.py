"""The tables for the person who tunes."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from pyramidai_mpi.tuning.cohort import Cohort
from pyramidai_mpi.tuning.report import beta_lines
from pyramidai_mpi.tuning.strategies import tabulate_betas
from tests.tuning.trees import random_cohort


@pytest.mark.parametrize("seed", range(8))
def test_betas_that_choose_the_same_thresholds_are_one_row_and_none_is_left_out(seed):
    table = tabulate_betas(Cohort(tuple(random_cohort(seed)), 0.5))
    said, rows = {}, list(beta_lines(table))[2:]
    for row in rows:
        betas, *levels, _ = row.split("|")
        first, last = re.fullmatch(r" *(\d+)(?: to (\d+))? *", betas).groups()
        for beta in range(int(first), int(last or first) + 1):
            assert beta not in said
            said[beta] = [float(cell.split()[0]) for cell in levels]
    assert list(said) == [joint.beta for joint in table.joint]
    for k, thresholds in enumerate(said.values()):
        assert thresholds == pytest.approx([level[k].threshold for level in table.isolated], abs=1e-5)
    texts = [row.partition("|")[2] for row in rows]
    assert all(one != next_one for one, next_one in pairwise(texts))
    assert len(rows) < 14
