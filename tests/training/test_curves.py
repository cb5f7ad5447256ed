"""The page of curves: numbers where they belong, nothing from elsewhere, readable without colours and without eyes."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest

from pyramidai_mpi.training.curves import charts_of, curves_page

ROWS = [
    {"epoch": epoch, "loss": 1 / epoch, "validation_loss": 0.8 / epoch + 0.1, "validation_accuracy": 1 - 0.4 / epoch}
    for epoch in range(1, 6)
]


def page_of(rows=ROWS, **others) -> str:
    charts = charts_of(rows, {"Loss": ["loss", "validation_loss"], "Accuracy": ["validation_accuracy", "no such"]})
    return curves_page("A <training>", charts, rows, **others)


def pictures(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(one) for one in re.findall(r'<svg [^>]*role="img".*?</svg>', page, re.S)]


def test_each_value_stands_at_its_height() -> None:
    loss, accuracy = pictures(page_of())
    for picture, name in ((loss, "loss"), (loss, "validation_loss"), (accuracy, "validation_accuracy")):
        texts = [(float(text.get("y")), float(text.text)) for text in picture.iter("text")
                 if text.get("text-anchor") == "end"]  # fmt: skip
        (y0, v0), (y1, v1) = texts[0], texts[-1]  # ticks of the axis, whose text lies 4 below its line
        dots = {
            circle.find("title").text: (float(circle.get("cx")), float(circle.get("cy")))
            for circle in picture.iter("circle")
        }
        across = []
        for row in ROWS:
            x, y = dots[f"epoch {row['epoch']}, {name}: {row[name]:.6g}"]
            assert v0 + (y - (y0 - 4)) / (y1 - y0) * (v1 - v0) == pytest.approx(row[name], abs=0.003)
            across.append(x)
        steps = [right - left for left, right in itertools.pairwise(across)]
        assert max(steps) - min(steps) <= 0.2
    assert len(list(accuracy.iter("circle"))) == 5


def test_curves_differ_by_more_than_colour_and_are_told_in_words() -> None:
    loss, _ = pictures(page_of())
    lines = [path for path in loss.iter("path") if path.get("fill") == "none"]
    assert len({path.get("stroke-dasharray") for path in lines}) == 2
    assert len({path.get("stroke") for path in lines}) == 2
    assert "loss from 1 to 0.2, between 0.2 and 1" in loss.get("aria-label")


def test_the_page_asks_nobody_for_anything_and_escapes_what_it_is_given() -> None:
    page = page_of(facts={"<b>": "a & b"})
    assert not re.search(r"https?:|<script|src=|@import|url\(", page)
    assert "default-src 'none'" in page
    assert "A &lt;training&gt;" in page
    assert "<dt>&lt;b&gt;</dt><dd>a &amp; b</dd>" in page
    assert "<td>0.333333</td>" in page


def test_what_is_no_number_is_a_gap_and_one_epoch_is_a_page_too() -> None:
    rows = [dict(row) for row in ROWS]
    rows[2]["loss"] = float("nan")
    (line, *_) = [path for path in pictures(page_of(rows))[0].iter("path") if path.get("fill") == "none"]
    assert line.get("d").count("M") == 2
    assert len(pictures(page_of(ROWS[:1]))) == 2
    assert pictures(page_of([])) == []


def test_the_kept_epoch_is_marked_where_it_lies() -> None:
    (chart,) = charts_of(ROWS, {"Loss": ["loss"]}, marked=4)
    (picture,) = pictures(curves_page("t", [chart], ROWS))
    (mark,) = [path for path in picture.iter("path") if path.get("class") == "mark"]
    x = float(re.match(r"M([\d.]+)", mark.get("d"))[1])
    assert x == pytest.approx(float(list(picture.iter("circle"))[3].get("cx")))
