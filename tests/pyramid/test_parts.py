"""Parts of a slide: their roots are the slide's, each once, and what is under them follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyramidai_mpi.base.part import Part
from pyramidai_mpi.base.types import tile_keys
from pyramidai_mpi.pyramid.cells import CellRule
from tests.trees import rule_of

RULE = rule_of(np.random.default_rng(2).random((70, 61)) < 0.3)


def parts_of(rule, of):
    return [replace(rule, part=Part(number, of)) for number in range(1, of + 1)]


@pytest.mark.parametrize("of", [1, 2, 7, 500])
def test_parts_together_have_the_roots_and_reference_tiles_of_the_slide(of):
    for tiles_of in (lambda rule: rule.roots(), lambda rule: rule.reference_tiles()):
        found = np.concatenate([tiles_of(part) for part in parts_of(RULE, of)])
        assert np.sort(tile_keys(found)).tolist() == tile_keys(tiles_of(RULE)).tolist()
    counts = [len(part.roots()) for part in parts_of(RULE, of)]
    assert max(counts) - min(counts) <= 1
    assert len(RULE.roots()) > 30
    assert all(part.whole() == RULE for part in parts_of(RULE, of)[:1])


def test_neighbouring_roots_go_to_different_parts():
    roots = RULE.roots()
    assert [len(np.setdiff1d(roots[n::3], part.roots())) for n, part in enumerate(parts_of(RULE, 3))] == [0, 0, 0]


@pytest.mark.parametrize("n_random", [None, 40])
def test_cells_are_dealt_in_stretches_after_the_draw(n_random):
    flat = rule_of(np.random.default_rng(2).random((70, 61)) < 0.3, n_levels=1)
    rule = CellRule(flat.tissue, 0.05, n_random, 3, "ab" * 32)
    dealt = [part.roots() for part in parts_of(rule, 7)]
    assert np.concatenate(dealt).tolist() == rule.roots().tolist()
    assert {len(one) for one in dealt} <= {len(rule.roots()) // 7, len(rule.roots()) // 7 + 1}
    assert all((part.candidates() == rule.candidates()).all() for part in parts_of(rule, 7))
