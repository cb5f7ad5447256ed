"""Explained tiles in a report: a layer of their own, said to be no evidence."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.export.explained.scales import scale_of
from pyramidai_mpi.export.explained.words import CAVEAT
from pyramidai_mpi.export.report import write_report
from pyramidai_mpi.slides.identity import quickhash
from tests.browser import browser
from tests.explained import write_explained
from tests.export.explained.test_stitched import painted
from tests.results import result_of, write_file


@pytest.fixture(scope="module")
def result(lossless_slide, tmp_path_factory):
    made = result_of(np.ones((24, 32), bool))
    made = replace(made, slide=replace(made.slide, quickhash=quickhash(lossless_slide)))
    return write_file(tmp_path_factory.mktemp("report") / "out.h5", made)


@pytest.fixture(scope="module")
def report(result, lossless_slide, explained_path):
    write_report(result, result.with_name("out.html"), lossless_slide, explained=explained_path)
    return result.with_name("out.html")


def test_the_layer_has_the_stitched_numbers_in_the_colours_of_their_scale(report, explained_slide):
    page = report.read_text(encoding="utf-8")
    layer = re.search(r'id="layer-explained" alt="" src="data:image/png;base64,([^"]+)" style="width:([\d.]+)%', page)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(layer[1]))).convert("RGBA")).astype(int)
    values = painted(explained_slide, 4)
    shown = np.isfinite(values)
    assert float(layer[2]) == 100
    np.testing.assert_array_equal(picture[..., 3], np.where(shown, 255, 0))
    expected = scale_of(explained_slide).colour(values[shown])
    assert np.abs(picture[shown][:, :3] - expected).max() <= 2  # a palette of 241 steps


def test_it_says_what_it_is_and_what_it_is_not(report):
    page = report.read_text(encoding="utf-8")
    section = html.unescape(re.search(r'<section id="explained">.*?</section>', page, re.DOTALL)[0])
    for words in ("13 tiles", "gradcam for tumor at level 0, layer /features/last", CAVEAT, "not for diagnosis"):
        assert words in section
    assert "curve of insertion" in section


def test_it_is_chosen_in_a_browser_with_its_own_legend(report, tmp_path):
    with browser(tmp_path / "profile") as page:
        page.open(report)
        page.click("label:has(input[value=explained])")
        shown = (
            "return [...document.querySelectorAll('.layer, .legend > span[id]')].filter(e => !e.hidden).map(e => e.id)"
        )
        assert page.run(shown) == ["layer-explained", "legend-explained"]
        assert page.log() == []


def test_tiles_of_another_slide_or_network_are_refused(result, explained_slide, tmp_path):
    other_slide = replace(explained_slide, slide=replace(explained_slide.slide, quickhash="ff" * 32))
    other_model = replace(explained_slide, model=replace(explained_slide.model, level_sha256=("99" * 32, "98" * 32)))
    for number, (other, words) in enumerate([(other_slide, "not of that of"), (other_model, "has not looked")]):
        path = write_explained(tmp_path / f"{number}.explained.h5", other)
        with pytest.raises(InputError, match=words):
            write_report(result, tmp_path / "r.html", explained=path)
    assert not (tmp_path / "r.html").exists()
