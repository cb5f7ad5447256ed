"""The page of a Deep Zoom folder opens from the disk and shows what the result says; all else is in test_overlay.py."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.export import deepzoom
from pyramidai_mpi.export.deepzoom import files_of_deepzoom, write_deepzoom
from pyramidai_mpi.export.layers import painted_rows
from pyramidai_mpi.export.picture import open_picture
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.testing.contracts import check_export
from tests.browser import browser
from tests.export.test_report import Page
from tests.export.test_report_page import expected_lines, marked, pixel_said, said
from tests.results import result_of, write_file

NAME = "<b>a & b</b>\"'</script><script>document.title='taken'</script>.tif"


@pytest.fixture(scope="module")
def made(lossless_slide):
    """A result of the lossless slide, with a name that would be markup."""
    result = result_of(np.ones((24, 32), bool))
    slide = replace(result.slide, name=NAME, quickhash=quickhash(lossless_slide))
    return replace(result, slide=slide, model=replace(result.model, intended_use="demonstration"))


@pytest.fixture(scope="module")
def zoom(made, lossless_slide, tmp_path_factory):
    """Its folder, moved after it was made."""
    folder = tmp_path_factory.mktemp("zoom")
    write_deepzoom(write_file(folder / "out.h5", made), folder / "made", lossless_slide)
    return shutil.move(folder / "made", folder / "a folder & its # name")


def test_it_keeps_the_contract_of_exports(made, lossless_slide, tmp_path_factory):
    folder = tmp_path_factory.mktemp("contract")
    sound = write_file(folder / "sound.h5", made)
    damaged = folder / "damaged.h5"
    damaged.write_bytes(sound.read_bytes()[:-2000])
    (folder / "here").mkdir()

    def export(result, target, overwrite):
        write_deepzoom(result, target, lossless_slide, overwrite=overwrite)

    check_export(export, sound, damaged, folder / "here")


def test_the_page_names_only_files_beside_it(zoom):
    page = Page((zoom / "index.html").read_text(encoding="utf-8"))
    beside = {address for address in page.addresses if not address.startswith("data:")}
    assert beside == {"openseadragon/openseadragon.min.js", "openseadragon/LICENSE.txt"}
    assert all((zoom / address).is_file() for address in beside)
    shipped = Path(deepzoom.__file__).parent / "assets" / "openseadragon"
    for name in ("openseadragon.min.js", "LICENSE.txt", "NOTICES.txt"):
        assert (
            hashlib.sha256((zoom / "openseadragon" / name).read_bytes()).digest()
            == hashlib.sha256((shipped / name).read_bytes()).digest()
        )


def test_all_its_files_count_as_the_export(zoom):
    names = {path.relative_to(zoom).as_posix() for path in files_of_deepzoom(zoom)}
    assert {"index.html", "overlay.dzi", "slide.dzi", "scores.dzi", "look.dzi"} <= names
    assert {"openseadragon/openseadragon.min.js", "scores_files/0/0_0.png", "slide_files/0/0_0.jpeg"} <= names


@pytest.mark.parametrize(("layer", "what"), [("scores", "scores"), ("look", "looks")])
def test_layers_are_clear_where_nothing_is_told(made, zoom, lossless_slide, tmp_path, layer, what):
    with open_picture(write_file(tmp_path / "out.h5", made), lossless_slide, downsample=8) as picture:
        expected = painted_rows(picture, what, 0, picture.size[1])
    with Image.open(zoom / f"{layer}_files" / "7" / "0_0.png") as tile:
        assert np.array_equal(np.asarray(tile), expected)
    with Image.open(zoom / f"{layer}_files" / "6" / "0_0.png") as tile:
        half = np.asarray(tile).astype(int)
    cells = expected.reshape(48, 2, 64, 2, 4).transpose(0, 2, 1, 3, 4).reshape(48, 64, 4, 4).astype(int)
    opacity = cells[..., 3:]
    mean = (cells[..., :3] * opacity).sum(axis=2) / np.maximum(opacity.sum(axis=2), 1)
    assert np.abs(half[..., 3] - opacity.mean(axis=2)[..., 0]).max() <= 1
    assert np.abs(half[..., :3] - mean)[half[..., 3] > 0].max() <= 1


@pytest.mark.parametrize(
    "added", ["notes.txt", "overlay_files/notes.txt", "slide_files/0/a.png", "openseadragon/my.js"]
)
def test_a_folder_to_which_somebody_has_added_is_not_replaced(made, tmp_path, added):
    path = write_file(tmp_path / "out.h5", made)
    write_deepzoom(path, tmp_path / "zoom")
    (tmp_path / "zoom" / added).write_text("mine")
    with pytest.raises(OutputExistsError, match="something else"):
        write_deepzoom(path, tmp_path / "zoom", overwrite=True)
    assert (tmp_path / "zoom" / added).read_text() == "mine"


def until(page, script):
    """Wait until a script returns something true; what it returns."""
    for _ in range(300):
        if found := page.run(script):
            return found
        time.sleep(0.05)
    raise AssertionError(f"never true: {script}")


def opened(page, folder):
    page.open(folder / "index.html")
    until(page, "return document.getElementById('view').dataset.ready")
    settled(page)


def settled(page):
    """Wait until the picture stands still."""
    page.run("window.was = null")
    until(
        page,
        "const scale = document.querySelector('#scale i').style.width, was = window.was;"
        "window.was = document.getElementById('view').dataset.zoom + scale;"
        "return scale && was === window.was",
    )


def drawn(page):
    """Mean colour of the middle of the picture as it is seen."""
    page.screenshot(page.shot)
    with Image.open(page.shot) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    return pixels[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3].mean(axis=(0, 1))


def until_drawn(page, holds):
    for _ in range(100):
        if holds(found := drawn(page)):
            return found
        time.sleep(0.1)
    raise AssertionError(f"never drawn so: {found}")


def test_every_control_of_the_page_works_from_the_disk_without_a_complaint(zoom, made, tmp_path):
    with browser(tmp_path / "profile") as page:
        page.shot = tmp_path / "seen.png"
        page.resize(1440, 900)
        opened(page, zoom)
        assert page.run("return document.title") == NAME
        assert page.run("return document.querySelector('h1').textContent") == NAME
        assert "Demonstration model" in page.run("return document.querySelector('.claim.strong').textContent")
        scores = drawn(page)
        page.click("label:has(input[value=none])")
        plain = until_drawn(page, lambda seen: np.abs(seen - scores).max() > 5)
        page.click("label:has(input[value=look])")
        look = until_drawn(page, lambda seen: min(np.abs(seen - plain).max(), np.abs(seen - scores).max()) > 5)
        assert page.run("return ['scores', 'look'].map(n => document.getElementById('legend-' + n).hidden)") == [
            True,
            False,
        ]
        page.type("#strength", "\ue011")  # home: none of it
        until_drawn(page, lambda seen: np.abs(seen - plain).max() < 2)
        page.type("#strength", "\ue010")  # end: all of it
        until_drawn(page, lambda seen: np.abs(seen - look).max() > 5)
        page.click("label:has(input[value=scores])")

        places = set()
        for right, down, kind in [(-150, -100, "mouse"), (60, 90, "mouse"), (120, -60, "touch")]:
            page.point("#view", right, down, kind)
            x, y = pixel_said(page)
            assert said(page)[:-1] == (expected_lines(made, x, y) or ["not looked at"])
            places.add((x, y))
        assert len(places) == 3
        assert marked(page, "under") is not None

        whole = float(page.run("return document.getElementById('view').dataset.zoom"))
        label = page.run("return document.querySelector('#scale span').textContent")
        page.click("#zoom-in")
        settled(page)
        until(page, f"return Number(document.getElementById('view').dataset.zoom) > {1.4 * whole}")
        page.click("#zoom-in")
        settled(page)
        assert page.run("return document.querySelector('#scale span').textContent") != label
        page.click("#zoom-out")
        settled(page)
        page.click("#fit")
        until(page, f"return Math.abs(document.getElementById('view').dataset.zoom - {whole}) < 0.01")
        page.turn_wheel("#view", -300)
        until(page, f"return Number(document.getElementById('view').dataset.zoom) > {1.1 * whole}")

        canvas = "#viewer .openseadragon-canvas"
        page.type(canvas, "0")
        until(page, f"return Math.abs(document.getElementById('view').dataset.zoom - {whole}) < 0.01")
        page.type(canvas, "\ue014")
        until(page, "return document.querySelectorAll('#where p').length")
        settled(page)
        x, y = pixel_said(page)
        assert said(page)[:-1] == (expected_lines(made, x, y) or ["not looked at"])
        assert page.run("return getComputedStyle(document.getElementById('cross')).display") == "block"
        assert page.log() == []


def test_the_scale_bar_is_as_long_as_it_says(zoom, made, tmp_path):
    with browser(tmp_path / "profile") as page:
        page.resize(1000, 800)
        opened(page, zoom)
        for _ in range(3):
            bar, label = page.run(
                "return [document.querySelector('#scale i').getBoundingClientRect().width,"
                "document.querySelector('#scale span').textContent]"
            )
            page.point("#view", 0, 0)
            first = pixel_said(page)[0]
            page.point("#view", 150, 0)
            per_pixel = (pixel_said(page)[0] - first) / 150 * made.slide.mpp
            number, unit = re.fullmatch(r"([\d.]+) (µm|mm)", label).groups()
            assert float(number) * (1000 if unit == "mm" else 1) == pytest.approx(bar * per_pixel, rel=0.03)
            page.click("#zoom-in")
            settled(page)
            settled(page)


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_the_dark(zoom, tmp_path, dark):
    with browser(tmp_path / "profile", dark=dark) as page:
        page.resize(420, 800)
        opened(page, zoom)
        assert page.run("return document.documentElement.scrollWidth <= innerWidth")
        wide = "filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 60))"
        assert page.run(f"return [...document.querySelectorAll('body *')].{wide}") == []
        assert page.run("return document.getElementById('view').clientHeight") > 250
        page.screenshot(tmp_path / "seen.png")
        assert page.log() == []
    with Image.open(tmp_path / "seen.png") as picture:
        brightness = np.asarray(picture.convert("L"))[3, 3]
    assert brightness < 60 if dark else brightness > 200
