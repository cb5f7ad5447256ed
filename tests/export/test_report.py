"""The report stands alone and says what the result says."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import InputError, OutputExistsError
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.export import report as report_module
from pyramidai_mpi.export.report import write_report
from pyramidai_mpi.export.summary import read_report_summary
from pyramidai_mpi.export.tile_table import level_table
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import read_header
from tests.colour_vision import least_difference
from tests.html_pages import Page, decoded
from tests.results import highest, result_of, write_file


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


def test_the_highest_scored_tiles_are_shown_with_their_pixels(page, report, made, lossless_slide):
    tiles = made.tree.levels[0]
    assert len(page.tiles) == 24
    with openslide.OpenSlide(lossless_slide) as slide:
        for address, n in zip(page.tiles, highest(made), strict=False):
            col, row = tiles.index[n].tolist()
            assert (
                f"{tiles.probability[n, 1]:.4f} level 0, {'positive' if tiles.decision[n] else 'negative'}" in page.text
            )
            assert f"x\u00a0{64 * col}, y\u00a0{64 * row}\u00a0px" in report.read_text(encoding="utf-8").replace(
                "&nbsp;", "\u00a0"
            )
            expected = np.asarray(slide.read_region((64 * col, 64 * row), 0, (64, 64)).convert("RGB"), int)
            found = decoded(address)[..., :3].astype(int)
            assert found.shape == expected.shape
            assert abs(found - through_jpeg(expected)).mean() < 1


def through_jpeg(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, format="JPEG", quality=85)
    with Image.open(stream) as image:
        return np.asarray(image).astype(int)


def test_without_the_slide_they_are_a_list(result, tmp_path, made):
    write_report(result, tmp_path / "out.html")
    page = Page((tmp_path / "out.html").read_text(encoding="utf-8"))
    assert page.tiles == []
    assert f"{made.tree.levels[0].probability[highest(made)[0], 1]:.4f}" in page.text
    assert "Their pixels are shown in a report that is made with the slide" in page.text


def test_a_tile_that_cannot_be_read_again_says_so_and_is_never_white(result, lossless_slide, tmp_path, monkeypatch):
    def unreadable(self, level, t_col, t_row):
        raise UnreadableRegionError("<b>damaged</b>")

    monkeypatch.setattr(SlidePyramid, "read_tile", unreadable)
    write_report(result, tmp_path / "out.html", lossless_slide)
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tiles == []
    assert page.text.count("could not be read again") == 24
    assert "<b>damaged" not in text


def told(text):
    """The page's table of tiles, decoded anew: {(level, col, row): (score, decision)}, score None where unreadable."""
    tables = json.loads(re.search(r'id="tables">(.*?)</script>', text, re.DOTALL)[1])
    found = {}
    for table in tables:
        bits = np.unpackbits(np.frombuffer(base64.b64decode(table["there"]), np.uint8), bitorder="little")
        cells = np.flatnonzero(bits[: table["cols"] * table["rows"]])
        codes = np.frombuffer(base64.b64decode(table["codes"]), "<u2")
        for cell, code in zip(cells.tolist(), codes.tolist(), strict=True):
            row, col = divmod(cell, table["cols"])
            found[table["level"], col, row] = (None, 2) if code == 1 else (code // 4 / 10000 - 1e-4, code % 4)
    return found


def test_the_page_knows_score_and_decision_of_every_tile(report, made):
    found = told(report.read_text(encoding="utf-8"))
    assert len(found) == made.tree.n_tiles
    for n, level in made.tree.levels.items():
        for (col, row), probability, decision in zip(
            level.index.tolist(), level.probability, level.decision, strict=True
        ):
            score, outcome = found[n, col, row]
            assert outcome == decision
            if decision == Decision.UNREADABLE:
                assert score is None
            else:
                assert score == pytest.approx(probability[1], abs=6e-5)


def test_too_many_tiles_are_told_by_the_highest_of_several(result, made):
    with open_result(result) as file:
        header = read_header(file)
        whole, table = level_table(file, header, 0), level_table(file, header, 0, most=60)
    tiles = made.tree.levels[0]
    assert (whole.step, whole.cols, whole.rows) == (1, 16, 12)
    assert table.step == 2
    assert (table.cols, table.rows, table.l0_side) == (8, 6, 128)
    codes = np.frombuffer(base64.b64decode(table.codes), "<u2")
    best = {}
    for (col, row), probability, decision in zip(tiles.index.tolist(), tiles.probability, tiles.decision, strict=True):
        score = -1.0 if decision == Decision.UNREADABLE else float(probability[1])
        best[row // 2, col // 2] = max(best.get((row // 2, col // 2), -1.0), score)
    expected = [best[cell] for cell in sorted(best)]
    assert [code // 4 / 10000 - 1e-4 for code in codes.tolist()] == pytest.approx(
        [max(score, -1e-4) for score in expected], abs=6e-5
    )


@pytest.mark.parametrize(("n_reference", "word"), [(None, "fewer tiles"), (1, "as many tiles")])
def test_more_tiles_than_without_the_pyramid_are_not_called_fewer(
    result, monkeypatch, tmp_path, n_reference, word, made
):
    if n_reference:
        monkeypatch.setattr("pyramidai_mpi.export.summary._count_reference", lambda *_: n_reference)
    write_report(result, tmp_path / "out.html")
    reference = n_reference or made.n_reference_tiles
    times = max(reference / made.tree.n_tiles, made.tree.n_tiles / reference)
    assert f"{times:.2f}× {word}" in Page((tmp_path / "out.html").read_text(encoding="utf-8")).text


@pytest.mark.parametrize("use", [None, "demonstration", "research", "<i>later</i>"])
def test_it_says_what_the_model_is_for(made, tmp_path, use):
    write_report(
        write_file(tmp_path / "out.h5", replace(made, model=replace(made.model, intended_use=use))), tmp_path / "o.html"
    )
    text = (tmp_path / "o.html").read_text(encoding="utf-8")
    said = claim_of(use)
    assert (said[:1].upper() + said[1:]) in Page(text).text
    assert ('class="claim' in text) == bool(use)
    assert ('class="claim strong' in text) == (use == "demonstration")
    assert "<i>later" not in text


@pytest.mark.parametrize("ground", ["card", "page"])
def test_bars_are_told_apart_by_everybody_in_the_light_and_the_dark(ground):
    css = (Path(report_module.__file__).parent / "templates" / "colours.css").read_text(encoding="utf-8")
    light, dark = css.split("prefers-color-scheme: dark")
    for text in (light, dark):
        colours = [re.search(rf"--{name}: #(\w{{6}})", text)[1] for name in ("hot", "cold", ground)]
        assert least_difference([list(bytes.fromhex(colour)) for colour in colours]) > 25
