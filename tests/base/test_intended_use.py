"""What people are told of a model's scores: the same sentence everywhere, and never nothing where something is said."""

from __future__ import annotations

import pytest

from pyramidai_mpi.base.intended_use import IntendedUse, claim_of, scores_mean_nothing


def test_every_use_has_one_line_and_a_demonstration_says_that_it_means_nothing() -> None:
    lines = [claim_of(use) for use in IntendedUse]
    assert len(set(lines)) == len(lines) == 4
    assert all(line and line.isprintable() for line in lines)
    assert claim_of("demonstration") == "demonstration model: scores mean nothing on real slides; not for diagnosis"


@pytest.mark.parametrize("nothing", [None, ""])
def test_where_nothing_is_said_nothing_is_claimed(nothing: str | None) -> None:
    assert claim_of(nothing) == ""
    assert not scores_mean_nothing(nothing)


def test_a_word_of_a_later_version_is_shown_as_it_is() -> None:
    assert claim_of("veterinary") == "veterinary model"


def test_those_that_mean_nothing_are_warned_of() -> None:
    assert {use.value for use in IntendedUse if scores_mean_nothing(use)} == {"demonstration", "benchmark"}
