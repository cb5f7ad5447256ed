"""Every tile has one rank to begin with, and neighbours the same one."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.pyramid.dealing import by_root, deal_by_root, deal_in_blocks, evenly_spread
from pyramidai_mpi.sched import deal_round_robin
from tests.trees import rule_of


@pytest.fixture
def rule():
    """Patchy tissue."""
    return rule_of(np.random.default_rng(5).random((43, 53)) < 0.15)


def root_of(rule, tile):
    span = rule.grid.span(rule.grid.n_levels - 1) // rule.grid.span(int(tile["level"]))
    return int(tile["row"]) // span, int(tile["col"]) // span


@pytest.mark.parametrize("deal", [deal_by_root, deal_in_blocks])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("mode", list(Mode))
def test_shares_are_disjoint_and_together_all_tiles(rule, mode, size, deal):
    tiles = rule.first_tiles(mode)
    shares = [deal(tiles, rule.grid, rank, size).tolist() for rank in range(size)]
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


@pytest.mark.parametrize("deal", [deal_by_root, deal_in_blocks])
def test_no_tiles_are_no_share(rule, deal):
    assert len(deal(rule.roots()[:0], rule.grid, 0, 2)) == 0


def test_one_rank_is_dealt_all_blocks_in_their_order(rule):
    tiles = rule.reference_tiles()
    assert (deal_in_blocks(tiles, rule.grid, 0, 1) == evenly_spread(tiles, rule.grid)).all()


@pytest.mark.parametrize(("size", "together"), [(2, 4), (5, 4), (16, 4), (40, 2), (300, 1)])
def test_blocks_of_roots_are_dealt_whole_and_equally(size, together):
    rule = rule_of(np.ones((512, 512), bool))  # 64 x 64 roots
    owners, counts = {}, []
    for rank in range(size):
        share = deal_in_blocks(rule.roots(), rule.grid, rank, size)
        blocks = [(int(root["col"]) // together, int(root["row"]) // together) for root in share]
        runs = [block for k, block in enumerate(blocks) if not k or block != blocks[k - 1]]
        assert len(runs) == len(set(runs))
        for block in runs:
            assert owners.setdefault(block, rank) == rank
        counts.append(len(share))
    assert len(owners) == (64 // together) ** 2
    assert max(counts) - min(counts) <= together**2


def test_blocks_of_unequal_roots_are_dealt_by_tiles():
    """Roots at the edge of tissue hold fewer tiles; a block more or less is the most by which shares differ."""
    rule = rule_of(np.random.default_rng(5).random((160, 160)) < np.linspace(0, 1, 160))
    tiles = rule.reference_tiles()
    counts = [len(deal_in_blocks(tiles, rule.grid, rank, 3)) for rank in range(3)]
    assert max(counts) - min(counts) <= 64


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
