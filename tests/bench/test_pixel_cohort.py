"""Which outlines fit a small slide."""

from __future__ import annotations

import pytest

from bench.paper.pixel_cohort import SMALLEST_SCALE, choose_lesions


def square(side: float) -> dict[str, list[list[list[float]]]]:
    return {"positive": [[[0, 0], [side, 0], [side, side], [0, side]]], "negative": []}


def test_outlines_that_fit_keep_their_size_and_larger_ones_shrink_to_a_half_at_most() -> None:
    # 8000 px at 0.25 um are 8230 px of 0.243 um
    outlines = {"small": square(1000), "fits": square(8230), "shrinks": square(12000), "too large": square(17000)}
    found = dict(choose_lesions(outlines, 10, 10_000))
    assert found == {
        "small": pytest.approx(1),
        "fits": pytest.approx(1),
        "shrinks": pytest.approx(8000 / (12000 * 0.243 / 0.25)),
    }
    assert min(found.values()) >= SMALLEST_SCALE


def test_the_smallest_and_the_largest_lesions_are_among_those_chosen() -> None:
    outlines = {f"side {side}": square(side) for side in range(1000, 5000, 100)}
    names = [name for name, _ in choose_lesions(outlines, 5, 10_000)]
    assert names == ["side 1000", "side 2000", "side 3000", "side 3900", "side 4900"]
