"""The order of patches of a data set: whole groups, shares that are disjoint and complete, the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidai_mpi.patches.group_order import groups_of, share_of, windows_of


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    n_patches=st.lists(st.integers(0, 40), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_groups_hold_each_chosen_patch_once_and_never_one_of_another_group(sizes, n_patches, seed):
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(rng.random(n) < 0.6).astype(np.uint32) for n, _ in zip(n_patches, sizes, strict=False)]
    found = groups_of(rows, sizes)
    expected = [
        (file, tuple(int(row) for row in chosen if row // size == group))
        for file, (chosen, size) in enumerate(zip(rows, sizes, strict=True))
        for group in sorted({int(row) // size for row in chosen})
    ]
    assert [(file, tuple(rows[file][start:stop].tolist())) for file, start, stop in found.tolist()] == expected


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("further", [1, 2, 5])
def test_shares_are_disjoint_complete_and_the_same_when_they_are_shared_out_further(world, further):
    shares = [share_of(23, 5, 2, rank, world).tolist() for rank in range(world)]
    assert sorted(group for share in shares for group in share) == list(range(23))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for rank, share in enumerate(shares):
        parts = [share_of(23, 5, 2, rank + world * worker, world * further).tolist() for worker in range(further)]
        assert sorted(group for part in parts for group in part) == sorted(share)
        assert [parts[n % further][n // further] for n in range(len(share))] == share


def test_orders_follow_from_seed_and_epoch():
    orders = {(seed, epoch): tuple(share_of(50, seed, epoch, 0, 1)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    assert orders[1, 0] == tuple(share_of(50, 1, 0, 0, 1))


def test_windows_are_the_groups_in_their_order_and_permutations_of_their_patches():
    groups = groups_of([np.arange(25, dtype=np.uint32)], [4])
    found = list(windows_of(groups, 3, (1, 2)))
    assert np.concatenate([some for some, _ in found]).tolist() == groups.tolist()
    assert [len(order) for _, order in found] == [12, 12, 1]
    assert all(sorted(order.tolist()) == list(range(len(order))) for _, order in found)
    assert found[0][1].tolist() != found[1][1].tolist()
    again = list(windows_of(groups, 3, (1, 2)))
    assert all((one[1] == other[1]).all() for one, other in zip(found, again, strict=True))


def test_a_group_larger_than_any_file_is_one_group():
    rows = np.array([0, 7, 9], np.uint32)
    for size in (10, 1 << 40, 1 << 80):
        assert groups_of([rows], [size]).tolist() == [(0, 0, 3)]
