"""A number and its noun agree."""

from __future__ import annotations

import pytest

from pyramidai_mpi.base.counts import counted


@pytest.mark.parametrize(("number", "words"), [(0, "0 ranks"), (1, "1 rank"), (2, "2 ranks"), (101, "101 ranks")])
def test_one_is_one_and_all_else_is_many(number: int, words: str) -> None:
    assert counted(number, "rank") == words
