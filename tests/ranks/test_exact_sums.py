"""Sums that do not depend on the order of adding, against Python's exact ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.ranks.exact_sums import ExactSum

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whoever_adds_in_whatever_order_gets_the_same_bits_and_the_true_sum(dtype) -> None:
    terms = [(RNG.normal(size=(3, 5)).astype(dtype), RNG.normal(size=7).astype(dtype) * 1e-4) for _ in range(400)]
    found = []
    for order in (range(400), range(399, -1, -1), RNG.permutation(400)):
        parts = [ExactSum({"a": 15, "b": 7}, 400) for _ in range(3)]
        for place, number in enumerate(order):
            parts[place % 3].add(int(number), terms[number])
        found.append(sum(part.whole for part in parts))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    a, b = parts[0].values(found[0])
    for got, column in ((a, 0), (b, 1)):
        flat = np.array([np.ravel(term[column]) for term in terms], np.float64)
        true = [math.fsum(numbers) for numbers in flat.T]
        assert np.abs(got - true).max() <= 400 * 2.0**-41  # half a unit of the last place a term


@pytest.mark.parametrize(
    ("value", "found"),
    [(np.nan, "is not a finite number"), (np.inf, "is not a finite number"), (3e6, "reaches 3e\\+06")],
)
def test_what_cannot_be_added_names_term_and_array_and_adds_nothing(value, found) -> None:
    total = ExactSum({"loss": 1, "gradient of conv.weight": 4}, n_terms=2, what="micro-batch")
    total.add(0, [np.ones(1, np.float32), np.ones((2, 2), np.float32)])
    before = total.whole.copy()
    term = np.ones((2, 2), np.float32)
    term[1, 0] = value
    with pytest.raises(InputError, match=f"^micro-batch 1: gradient of conv.weight {found}"):
        total.add(1, [np.ones(1, np.float32), term])
    assert np.array_equal(total.whole, before)


def test_the_largest_terms_that_are_taken_do_not_overflow() -> None:
    n = 64
    most = np.nextafter(2.0**22 / n, 0)
    total = ExactSum({"x": 1}, n)
    for number in range(n):
        total.add(number, [np.array([most])])
    assert total.values(total.whole)[0][0] == pytest.approx(2.0**22)
    with pytest.raises(InputError, match="unit 3: x reaches"):
        total.add(3, [np.array([-(2.0**22) / n])])


def test_a_term_of_another_size_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="x: 3 numbers, expected 2"):
        ExactSum({"x": 2}, 1).add(0, [np.zeros(3)])
