"""The report stands alone, says what the result says, and works in a browser."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import InputError, OutputExistsError
from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.export.report import write_report
from pyramidai_mpi.export.summary import read_report_summary
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.result import BATCH_DTYPE
from pyramidai_mpi.store.results.tables import read_header
from tests.browser import browser
from tests.results import result_of, write_file


class Page(HTMLParser):
    """What a page shows and refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.images: dict[str, str] = {}
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.addresses += [value for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]
        if tag == "img":
            self.images[attributes.get("id") or attributes["alt"] or attributes["class"]] = attributes["src"]
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def picture(self, name: str) -> np.ndarray:
        data = base64.b64decode(self.images[name].partition("base64,")[2])
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGBA"))


@pytest.fixture(scope="module")
def made(lossless_slide):
    """A result of the lossless slide, of which two ranks did six batches."""
    result = result_of(np.ones((24, 32), bool))
    batches = np.array(
        [(0, 2, 4, 0, 1), (0, 1, 9, 1, 3), (0, 0, 9, 6, 8), (1, 2, 4, 0, 2), (1, 1, 9, 2, 4), (1, 0, 7, 4, 8)],
        BATCH_DTYPE,
    )
    return replace(
        result,
        slide=replace(result.slide, name="<b>a & b</b>.tif", quickhash=quickhash(lossless_slide)),
        execution=replace(result.execution, batches=batches),
    )


@pytest.fixture(scope="module")
def result(made, tmp_path_factory):
    return write_file(tmp_path_factory.mktemp("report") / "out.h5", made)


@pytest.fixture(scope="module")
def report(result, lossless_slide):
    write_report(result, result.with_name("out.html"), lossless_slide)
    return result.with_name("out.html")


@pytest.fixture(scope="module")
def page(report):
    return Page(report.read_text(encoding="utf-8"))


def test_it_refers_to_nothing_outside_itself(page, report):
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    text = report.read_text(encoding="utf-8")
    assert "@import" not in text
    assert "url(" not in text
    assert "fetch(" not in text


def test_names_are_text_and_never_markup(page, report):
    assert "<b>a & b</b>.tif" in page.text
    assert "<b>a" not in report.read_text(encoding="utf-8")


def test_it_tells_the_numbers_of_the_result(page, made):
    tree = made.tree
    words = page.text
    assert f"{tree.n_tiles} tiles analysed" in words
    assert f"{tree.count(Decision.ZOOM)[0]} positive at" in words
    assert f"{made.n_reference_tiles} tiles without the pyramid" in words
    assert f"{made.n_reference_tiles / tree.n_tiles:.2f}× fewer tiles" in words
    assert f"{tree.n_failed} unreadable" in words
    assert made.digest() in words
    assert "pyramidai slide.tif" in words


def test_every_level_is_a_picture_of_its_tiles(page, made):
    for n, level in made.tree.levels.items():
        pixels = page.picture(f"layer-level{n}")
        seen = np.zeros(pixels.shape[:2], bool)
        seen[level.index[:, 1], level.index[:, 0]] = True
        assert np.array_equal(pixels[..., 3] > 0, seen)


def test_the_strip_shows_who_worked_when(page):
    strip = page.picture("Batches of each rank over time")
    work = strip[3::8, :, 3] > 0
    assert work.shape == (2, 1200)
    at = [int((second + 0.5) * 150) for second in range(8)]  # eight seconds over 1200 pixels
    assert work[0, at].tolist() == [True, True, True, False, False, False, True, True]
    assert work[1, at].all()
    colours = [tuple(strip[3, x, :3]) for x in (at[0], at[1], at[6])]
    assert len(set(colours)) == 3


@pytest.mark.parametrize("mode", list(Mode))
def test_the_reference_is_counted_as_the_run_counts_it(tmp_path, mode):
    made = result_of(mode=mode)
    facts = made.execution.attributes | {"mode": str(mode)}
    path = write_file(tmp_path / "out.h5", replace(made, execution=replace(made.execution, attributes=facts)))
    with open_result(path) as file:
        summary = read_report_summary(file, read_header(file))
    assert summary.n_reference == made.n_reference_tiles
    assert summary.n_tiles == made.tree.n_tiles


def test_scores_are_binned_as_numpy_bins_them(result, made):
    with open_result(result) as file:
        summary = read_report_summary(file, read_header(file))
    for level in summary.levels:
        tiles = made.tree.levels[level.number]
        for decision, counts in ((Decision.STOP, level.stopped_scores), (Decision.ZOOM, level.zoomed_scores)):
            expected, _ = np.histogram(tiles.probability[tiles.decision == decision, 1], 20, (0, 1))
            assert list(counts) == expected.tolist()
        assert level.unreadable == (tiles.decision == Decision.UNREADABLE).sum()


def test_a_result_without_tiles_slide_or_batches_has_a_report_too(tmp_path):
    write_report(write_file(tmp_path / "out.h5", result_of(np.zeros((10, 12), bool))), tmp_path / "out.html")
    words = Page((tmp_path / "out.html").read_text(encoding="utf-8")).text
    assert "0 tiles analysed" in words
    assert "recorded for slides that were run alone" in words


def test_the_slide_of_another_result_is_refused_and_an_existing_page_kept(result, slide, report):
    before = report.read_bytes()
    with pytest.raises(OutputExistsError):
        write_report(result, report)
    with pytest.raises(InputError, match=r"slide\.tif"):
        write_report(result, report, slide, overwrite=True)
    assert report.read_bytes() == before


def shown(page):
    return page.run("return [...document.querySelectorAll('.layer')].filter(e => !e.hidden).map(e => e.id)")


def zoom(page):
    return float(page.run("return document.getElementById('view').dataset.zoom"))


def place(page):
    return page.run("return (({left, top, width}) => [left, top, width])"
                    "(document.getElementById('stage').getBoundingClientRect())")  # fmt: skip


def test_every_control_works_in_a_browser_without_a_complaint(report, tmp_path):
    with browser(tmp_path / "profile") as page:
        page.resize(1440, 900)
        page.open(report)
        assert page.run("return document.documentElement.scrollWidth <= innerWidth")
        assert shown(page) == ["layer-scores"]
        for name in ("look", "level2", "level1", "level0", "scores"):
            page.click(f"label:has(input[value={name}])")
            assert shown(page) == [f"layer-{name}"]
            legends = page.run("return ['scores', 'look'].map(n => !document.getElementById('legend-' + n).hidden)")
            assert legends == [name != "look", name == "look"]
        page.click("label:has(input[value=none])")
        assert shown(page) == []
        page.click("label:has(input[value=scores])")

        whole = place(page)
        page.click("#zoom-in")
        assert zoom(page) == pytest.approx(1.5)
        assert place(page)[2] == pytest.approx(1.5 * whole[2], rel=0.01)
        page.click("#zoom-out")
        assert zoom(page) == 1
        page.turn_wheel("#view", -400)
        assert zoom(page) == pytest.approx(2.718, rel=0.01)
        before = place(page)
        page.drag("#view", 70, 40)
        after = place(page)
        assert (after[0] - before[0], after[1] - before[1]) == pytest.approx((70, 40), abs=1)
        assert "px" in page.run("return document.getElementById('where').textContent")
        page.type("#view", "+")
        assert zoom(page) == pytest.approx(2.718 * 1.5, rel=0.01)
        page.click("#fit")
        assert place(page) == pytest.approx(whole, abs=1)

        page.type("#strength", "\ue012" * 10)  # left arrow
        assert page.run("return Number(getComputedStyle(document.getElementById('layer-scores')).opacity)") < 0.6
        page.screenshot(tmp_path / "light.png")
        assert page.log() == []
    with Image.open(tmp_path / "light.png") as picture:
        assert picture.size == (1440, 900)
        assert np.asarray(picture.convert("L"))[5, 5] > 200


def test_it_is_dark_where_the_reader_likes_it_dark_and_fits_a_narrow_window(report, tmp_path):
    with browser(tmp_path / "profile", dark=True) as page:
        page.resize(1280, 720)
        page.open(report)
        page.screenshot(tmp_path / "dark.png")
        page.resize(800, 700)
        assert page.run("return document.documentElement.scrollWidth <= innerWidth + 1")
        assert page.log() == []
    with Image.open(tmp_path / "dark.png") as picture:
        assert np.asarray(picture.convert("L"))[5, 5] < 60
