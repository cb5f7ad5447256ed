"""Every tile has one rank to begin with, and neighbours the same one."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.pyramid.dealing import by_root, deal_by_root, evenly_spread
from pyramidai_mpi.sched import deal_round_robin
from tests.trees import rule_of


@pytest.fixture
def rule():
    """Patchy tissue."""
    return rule_of(np.random.default_rng(5).random((43, 53)) < 0.15)


def root_of(rule, tile):
    span = rule.grid.span(rule.grid.n_levels - 1) // rule.grid.span(int(tile["level"]))
    return int(tile["row"]) // span, int(tile["col"]) // span


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("mode", list(Mode))
def test_shares_are_disjoint_and_together_all_tiles(rule, mode, size):
    tiles = rule.first_tiles(mode)
    shares = [deal_by_root(tiles, rule.grid, rank, size).tolist() for rank in range(size)]
    assert sorted(tile for share in shares for tile in share) == sorted(tiles.tolist())
    assert len(tiles) > 3


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_roots_are_dealt_in_turn(rule, size):
    roots = rule.roots()
    for rank in range(size):
        assert (deal_by_root(roots, rule.grid, rank, size) == deal_round_robin(roots, rank, size)).all()


@pytest.mark.parametrize("size", [2, 3, 5])
def test_tiles_under_one_root_are_one_ranks_and_follow_each_other(rule, size):
    tiles = np.concatenate([rule.reference_tiles(), rule.roots()[::2]])  # of several levels, as when a run goes on
    owners = {}
    for rank in range(size):
        share = deal_by_root(tiles, rule.grid, rank, size)
        roots = [root_of(rule, tile) for tile in share]
        assert roots == sorted(roots)
        for root in roots:
            assert owners.setdefault(root, rank) == rank
    assert len(owners) > size


def test_roots_are_counted_from_zero(rule):
    ordered, number = by_root(rule.reference_tiles(), rule.grid)
    found = {}
    for tile, n in zip(ordered, number.tolist(), strict=True):
        found.setdefault(root_of(rule, tile), set()).add(n)
    assert [numbers for _, numbers in sorted(found.items())] == [{n} for n in range(len(found))]


def test_no_tiles_are_no_share(rule):
    assert len(deal_by_root(rule.roots()[:0], rule.grid, 0, 2)) == 0


@pytest.mark.parametrize("mode", list(Mode))
def test_spreading_keeps_all_tiles_and_those_under_one_root_together(rule, mode):
    tiles = np.concatenate([rule.first_tiles(mode), rule.roots()[::2]])
    spread = evenly_spread(tiles, rule.grid)
    assert sorted(spread.tolist()) == sorted(tiles.tolist())
    roots = [root_of(rule, tile) for tile in spread]
    runs = [root for k, root in enumerate(roots) if not k or root != roots[k - 1]]
    assert len(runs) == len(set(roots))


@pytest.mark.parametrize("side", [8, 64])
def test_every_quarter_of_the_order_covers_every_quarter_of_the_slide(side):
    rule = rule_of(np.ones((8 * side, 8 * side), bool))
    for part in np.split(evenly_spread(rule.roots(), rule.grid), 4):
        counts, _, _ = np.histogram2d(part["col"], part["row"], bins=2, range=[[0, side], [0, side]])
        assert (counts == side**2 / 16).all()


@pytest.mark.parametrize(("side", "together"), [(8, 1), (32, 3), (64, 4)])
def test_roots_stay_together_in_blocks_where_there_are_a_hundred_or_more(side, together):
    rule = rule_of(np.ones((8 * side, 8 * side), bool))
    roots = evenly_spread(rule.roots(), rule.grid)
    whole = side // together * together
    blocks = [(int(r["col"]) // together, int(r["row"]) // together) for r in roots if max(r["col"], r["row"]) < whole]
    runs = [block for k, block in enumerate(blocks) if not k or block != blocks[k - 1]]
    assert len(runs) == len(set(blocks)) == (side // together) ** 2


def test_no_tiles_are_spread_to_none(rule):
    assert len(evenly_spread(rule.roots()[:0], rule.grid)) == 0
