"""What a terminal and a notebook show of a result: its numbers, no more than a screen, and no name as markup."""

from __future__ import annotations

import base64
import html.parser
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import pyramidai_mpi
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.opened import Heatmap
from tests.results import result_of, write_file


@pytest.fixture(scope="module")
def made():
    made = result_of()
    return replace(made, execution=replace(made.execution, attributes={**made.execution.attributes, "mode": "pyramid"}))


@pytest.fixture
def result(made, tmp_path):
    return pyramidai_mpi.open_result(write_file(tmp_path / "out.h5", made))


class Cells(html.parser.HTMLParser):
    """Texts, tags and attributes of a page, by Python's own parser."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in {"src", "href"}]
        if tag not in {"img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def picture_in(page: str) -> np.ndarray:
    (source,) = Cells(page).sources
    kind, data = source.split(",")
    assert kind == "data:image/png;base64"  # nothing is fetched
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_the_text_is_one_screen_with_the_numbers_of_each_level(result, made):
    lines = repr(result).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    rows = {int(line.split()[0]): line.split() for line in lines if re.match(r" +\d", line)}
    assert list(rows) == [2, 1, 0]
    for n, level in made.tree.levels.items():
        counts = [str(int((level.decision == one).sum())) for one in (Decision.ZOOM, Decision.UNREADABLE)]
        assert rows[n][2:4] == [str(len(level)), counts[0]]
        assert rows[n][-2:] == [counts[1], f"{made.levels[n].threshold:g}"]
    for words in ("out.h5", "slide.tif", "1440 x 1120 px", "0.2528 µm/px", "colour", "positive: tumor", "pyramid"):
        assert words in repr(result)
    assert f"{result.areas.positive:.3g} mm² of it in positive tiles" in repr(result)


def test_what_was_not_looked_at_is_said(tmp_path):
    empty = pyramidai_mpi.open_result(write_file(tmp_path / "e.h5", result_of(np.zeros((35, 45), bool))))
    assert empty.warning
    assert empty.warning in repr(empty)
    assert empty.warning in empty._repr_html_()
    assert "without any score" in repr(empty.heatmap())


def test_the_html_says_the_same_and_shows_the_scores(result):
    page = result._repr_html_()
    texts = Cells(page).texts
    assert Cells(page).open == []
    for line in repr(result).splitlines()[1:5]:
        label, text = line[:9].strip(), line[9:]
        assert label in texts
        assert text in texts
    for line in repr(result).splitlines()[6:9]:
        assert set(line.split()) <= {word for text in texts for word in text.split()}
    picture, scores = picture_in(page), result.heatmap().values
    assert np.array_equal(picture[..., 3] == 255, np.isfinite(scores))
    low, high = np.nanargmin(scores), np.nanargmax(scores)
    red, blue = picture[..., 0].ravel().astype(int), picture[..., 2].ravel().astype(int)
    assert red[high] - blue[high] > red[low] - blue[low]


def test_names_are_text_in_html_and_start_no_line(made, tmp_path):
    evil = "<script>alert(1)</script>\n\x1b[31m&\"'"
    hostile = replace(
        made,
        slide=replace(made.slide, name=evil),
        model=replace(made.model, name=evil, classes=("normal", evil), positive_class=evil),
    )
    result = pyramidai_mpi.open_result(write_file(tmp_path / "<b>.h5", hostile))
    kind = Cells(result._repr_html_())
    assert not {"script", "b"} & set(kind.tags[3:])
    assert kind.tags[:3] == ["div", "div", "b"]
    assert "\x1b" not in repr(result) + result._repr_html_() + repr(result.levels[0])
    assert len(repr(result).splitlines()) == len(repr(pyramidai_mpi.open_result(result.path)).splitlines()) == 9


def test_a_result_that_has_changed_says_so_instead_of_raising(result, made):
    write_file(result.path.with_name("new.h5"), made).replace(result.path)
    assert "was changed since it was opened" in repr(result)
    assert result._repr_html_().startswith("<pre>OpenResult of out.h5, which cannot be read: ")


def test_a_level_is_a_line(result, made):
    assert repr(result.levels[1]) == (
        f"ResultLevel 1: {len(made.tree.levels[1])} tiles at 0.506 µm/px, threshold 0.4, classes normal, tumor"
    )


def test_a_heatmap_is_a_line_and_a_picture(result):
    heatmap = result.heatmap()
    assert "45 x 35 px" in repr(heatmap)
    assert f"{np.nanmax(heatmap.values):.3g}" in repr(heatmap)
    picture = np.asarray(Image.open(io.BytesIO(heatmap._repr_png_())))
    assert np.array_equal(picture, picture_in(heatmap._repr_html_()))
    assert picture.shape == (35, 45, 4)


def test_a_large_heatmap_is_made_smaller_by_largest_scores():
    values = np.zeros((1500, 3000), np.float32)
    values[701, 1801] = 1
    picture = np.asarray(Image.open(io.BytesIO(Heatmap(values, 1.0)._repr_png_())))
    assert picture.shape == (188, 375, 4)  # halved three times
    spot = np.argwhere(picture[..., 0] > picture[..., 2])
    assert spot.tolist() == [[701 // 8, 1801 // 8]]
