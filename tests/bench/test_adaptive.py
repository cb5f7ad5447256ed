"""What the bench of strides in steps says of its slides."""

from __future__ import annotations

import numpy as np
import pytest

from bench.paper.adaptive import SLIDES, Compared, figures_of, slide_rows
from pyramidai_mpi.evaluation.dense import Agreement
from pyramidai_mpi.evaluation.froc import Findings


def compared(name: str, share: float, both: int, either: int, lesion: float, false: list[float]) -> Compared:
    full = Findings(np.array([0.9]), np.array([0.8]))
    steps = Findings(np.array([lesion]), np.array(false))
    return Compared(name, share, Agreement(100, 100 - either + both, both, either), 3, 2, 0.1, full, steps)


def test_the_figures_are_those_of_all_slides_together() -> None:
    slides = [
        compared("one", 0.1, 9, 10, 0.9, [0.8]),
        compared("two", 0.3, 8, 10, 0.7, []),
        compared("three", 0.2, 0, 0, 0.9, []),
    ]
    found = {figure.figure: figure for figure in figures_of(slides)}
    assert found["windows in steps over all, mean"].value == pytest.approx(0.2)
    assert found["windows in steps over all, worst"].value == pytest.approx(0.3)
    assert found["IoU of the two maps, mean"].value == pytest.approx(0.85)  # where nothing is positive there is none
    assert found["IoU of the two maps, mean"].setting == {"lowest": 0.8}
    # all windows: every lesion is found before any false place, so the sensitivity is 1 at every rate
    assert found["FROC score of all windows"].value == 1
    # in steps the third lesion comes after a false place: 1/3 false places a slide, so 2/3 and on the way to 1
    at_a_quarter = 2 / 3
    assert found["FROC score in steps"].value == pytest.approx((at_a_quarter + 5) / 6)
    rows = list(slide_rows(slides))
    assert rows[0] == ("one", "10.0%", "1/10.0", "0.9000", "0.9900", "2 of 3", "1 / 1")


def test_the_slides_have_all_seeds_and_one_is_free_of_tumour() -> None:
    assert {seed for seed, name in SLIDES if name} == {1, 2, 3, 4, 5}
    assert [name for _, name in SLIDES].count(None) == 1
    assert len({name for _, name in SLIDES}) == len(SLIDES)
