"""Where windows lie in maps: compared with maps whose values are the places themselves."""

from __future__ import annotations

from itertools import accumulate
from operator import mul

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidai_mpi.models.dense.lattice import Lattice


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.integers(1, 60),
    st.integers(1, 6),
    st.integers(0, 40),
)
def test_every_window_finds_its_own_places(strides, stride, block, extra):
    """Subsample a row of pixel numbers stride by stride, in phases as the lattice says: windows find their pixels."""
    steps = list(accumulate(strides, mul, initial=1))
    window = steps[-1] + extra
    lattice = Lattice.of(window, stride, block, steps)
    assert lattice.padded_region >= lattice.region or block == 1
    maps = {0: np.arange(lattice.padded_region)}  # by phase
    sides = window
    for step, by in zip(steps, strides, strict=False):
        before, after = lattice.phases(step), lattice.phases(step * by)
        taken = {}
        for phase, row in maps.items():
            for shift in range(after // before):
                taken[phase + shift * before] = row[shift * lattice.spread(step) :: by]
        sides = -(-sides // by)
        length = lattice.sides(step * by, (sides, sides))[0]
        maps = {phase: row[:length] for phase, row in taken.items()}
        assert {len(row) for row in maps.values()} == {length}
        phases, places = lattice.found(step * by)
        for window_number, (phase, place) in enumerate(zip(phases, places, strict=True)):
            found = maps[phase][place : place + sides]
            assert found.tolist() == [window_number * stride + n * step * by for n in range(sides)]


@pytest.mark.parametrize(
    ("stride", "unit"), [(8, 8), (16, 16), (32, 32), (64, 32), (50, 2), (112, 16), (224, 32), (7, 1)]
)
def test_the_unit_is_the_largest_common_divisor_for_powers_of_two(stride, unit):
    assert Lattice.of(224, stride, 4, [1, 2, 4, 8, 16, 32]).unit == unit


def test_a_unit_has_to_fit_every_step():
    assert Lattice.of(64, 6, 4, [1, 4, 12]).unit == 2  # 6 neither divides 4 nor is a multiple of it
