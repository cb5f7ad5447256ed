"""Parts: their words, names and shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.part import Part, named_part, parse_part, parts_in_words


@given(st.integers(0, 300), st.integers(1, 40))
def test_both_ways_to_share_deal_all_once_and_evenly(n: int, of: int) -> None:
    things = list(range(n))
    for way in (lambda part: part.every_nth(), lambda part: part.stretch(n)):
        shares = [things[way(Part(number, of))] for number in range(1, of + 1)]
        assert sorted(thing for share in shares for thing in share) == things
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("word", ["", "3", "3/", "/7", "0/7", "8/7", "-1/7", "3/7/1", "3.0/7", "1/65537", "a/b", "٣/٧"])
def test_what_is_no_part_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="expected I/N with 1 <= I <= N"):
        parse_part(word)


@pytest.mark.parametrize("whole", ["out.h5", "slide.patches.h5", "a.b.hdf5", "name", "x.part-1-of-2.h5"])
def test_a_name_says_what_it_is_a_part_of(whole: str) -> None:
    part = parse_part("3/7")
    name = part.name_of(Path("folder") / whole)
    assert ".part-3-of-7" in name.name
    assert named_part(name) == (Path("folder") / whole, part)


@pytest.mark.parametrize("name", ["out.h5", "out.part-3-of-7.h5.journal", "out.part-8-of-7.h5", "part-1-of-2.h5"])
def test_other_names_say_nothing(name: str) -> None:
    assert named_part(Path(name)) is None


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([3], "part 3 of 9"),
        ([5, 3], "parts 3 and 5 of 9"),
        ([1, 2], "parts 1 and 2 of 9"),
        ([1, 2, 3], "parts 1 to 3 of 9"),
        ([2, 4, 5, 6, 9], "parts 2, 4 to 6 and 9 of 9"),
    ],
)
def test_parts_in_words(numbers: list[int], words: str) -> None:
    assert parts_in_words(numbers, 9) == words
