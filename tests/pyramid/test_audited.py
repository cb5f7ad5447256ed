"""Which tiles are audited: each with the same probability, whatever order, rank or company."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, chisquare

from pyramidai_mpi.base.types import TILE_DTYPE
from pyramidai_mpi.pyramid.audited import AuditChoice


def tiles_of(n: int, level: int = 0, width: int = 251) -> np.ndarray:
    tiles = np.zeros(n, TILE_DTYPE)
    tiles["level"], tiles["col"], tiles["row"] = level, np.arange(n) % width, np.arange(n) // width
    return tiles


def test_a_choice_is_the_same_in_any_order_and_company() -> None:
    tiles, choice = tiles_of(5000), AuditChoice(0.1, 3, "ab")
    chosen = choice.chosen(tiles)
    order = np.random.default_rng(0).permutation(len(tiles))
    assert (AuditChoice(0.1, 3, "ab").chosen(tiles[order]) == chosen[order]).all()
    assert [choice.chosen(tiles[n : n + 1])[0] for n in range(300)] == chosen[:300].tolist()


@pytest.mark.parametrize("share", [0.001, 0.01, 0.37, 0.5])
def test_of_many_tiles_the_share_is_chosen(share: float) -> None:
    tiles = tiles_of(100_000)
    for seed in range(5):
        n = int(AuditChoice(share, seed, "ab").chosen(tiles).sum())
        assert binom.ppf(1e-4, len(tiles), share) <= n <= binom.ppf(1 - 1e-4, len(tiles), share)


def test_the_choice_of_one_tile_tells_nothing_of_another_or_of_another_seed_slide_or_level() -> None:
    tiles, first = tiles_of(40_000), AuditChoice(0.5, 0, "ab")
    one = first.chosen(tiles)
    others = [
        np.roll(one, 1),
        np.roll(one, 251),  # the row before
        AuditChoice(0.5, 1, "ab").chosen(tiles),
        AuditChoice(0.5, 0, "ac").chosen(tiles),
        first.chosen(tiles_of(40_000, level=1)),
    ]
    for other in others:
        table = [int((one == a).dot(other == b)) for a in (False, True) for b in (False, True)]
        assert chisquare(table).pvalue > 1e-4


def test_all_and_none() -> None:
    tiles = tiles_of(1000)
    assert AuditChoice(1.0, 0, "ab").chosen(tiles).all()
    assert not AuditChoice(0.0, 0, "ab").chosen(tiles).any()
    assert AuditChoice(0.5, 0, "ab").chosen(tiles[:0]).shape == (0,)


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    tiles = tiles_of(20_000)
    small, large = (AuditChoice(share, 5, "ab").chosen(tiles) for share in (0.01, 0.2))
    assert small.any()
    assert large[small].all()
