"""Random numbers of a mask: by its number alone, whoever draws which."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pyramidai_mpi.explain.chance import bits, uniforms, words

KEY = (7, int("ab" * 32, 16), 0, 12, 34)


@pytest.mark.parametrize("count", [1, 4, 51, 66])
def test_a_block_is_a_piece_of_the_whole(count):
    whole = words("x", KEY, range(40), count)
    assert (words("x", KEY, range(13, 29), count) == whole[13:29]).all()
    assert (np.concatenate([words("x", KEY, range(n, n + 1), count) for n in range(40)]) == whole).all()


def test_they_are_those_of_numpys_own_generator():
    key = hashlib.sha256(f"pyramidai-explain/1 x {' '.join(map(str, KEY))}".encode()).digest()[:16]
    for number in (0, 5, 1000):
        philox = np.random.Philox(key=np.frombuffer(key, np.uint64), counter=[number * 2, 0, 0, 0])
        expected = np.random.Generator(philox).random(7)
        assert uniforms("x", KEY, range(number, number + 1), 7)[0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("purpose", "key"),
    [("y", KEY), ("x", (8, *KEY[1:])), ("x", (*KEY[:-1], 35)), ("x", (7, KEY[1] + 1, *KEY[2:])), ("x", (*KEY, 0))],
)
def test_another_purpose_seed_slide_or_tile_has_others(purpose, key):
    assert not (words(purpose, key, range(50), 4) == words("x", KEY, range(50), 4)).any()


def test_none_comes_twice():
    assert len(np.unique(words("x", KEY, range(500), 9))) == 4500


def test_coins_are_fair_and_know_nothing_of_each_other():
    drawn = bits("x", KEY, range(4000), 70)
    assert drawn.shape == (4000, 70)
    # within 4.5 deviations of a share, or a correlation, of 4000 tosses
    assert abs(drawn.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / 4000**0.5
    assert abs(np.corrcoef(drawn.T) - np.eye(70)).max() < 4.5 / 4000**0.5
