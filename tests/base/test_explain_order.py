"""What may be asked of explanations."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.explain_order import ExplainOrder, TilesWanted, parse_tiles


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["top:20"], TilesWanted(top=20)),
        (["positive"], TilesWanted(positive=True)),
        (["l0:4096,512", "l0: 3, 4"], TilesWanted(points=((4096, 512), (3, 4)))),
        (["tiles.csv"], TilesWanted(file=Path("tiles.csv"))),
    ],
)
def test_words_say_which_tiles(words, wanted):
    assert parse_tiles(words) == wanted
    assert parse_tiles(wanted.in_words().split(" ")) == wanted


@pytest.mark.parametrize(
    "words",
    [
        ["top:0"],
        ["top:x"],
        ["l0:1"],
        ["l0:1,2,3"],
        ["l0:1," + 20 * "9"],
        [""],
        [],
        ["top:3", "l0:1,2"],
        ["a.csv", "b.csv"],
    ],
)
def test_other_words_are_refused_in_one_line(words):
    with pytest.raises(UsageError, match=r"^--tiles") as error:
        parse_tiles(words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [{"level": -1}, {"until": 0.0}, {"until": 1.0}, {"masks": 1}, {"masks": 1 << 20}, {"seed": -1}, {"seed": 1 << 64}],
)
def test_values_that_make_no_sense_are_refused(values):
    (name,) = values
    with pytest.raises(UsageError, match=f"^--{name} "):
        ExplainOrder(**values)


def test_masks_are_a_number_of_the_method():
    assert ExplainOrder(masks=5, options={"grid": 4}).asked == {"n_masks": 5, "grid": 4}


def test_masks_are_said_in_one_way():
    with pytest.raises(UsageError, match="--masks 64 and --set n_masks=128 say the same"):
        ExplainOrder("rise", masks=64, options={"n_masks": 128.0})
    assert ExplainOrder("rise", options={"n_masks": 128.0}).asked == ExplainOrder("rise", masks=128).asked
