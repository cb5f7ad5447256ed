"""Pages of patches in a browser: mouse, keyboard, narrow and dark."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.patches.folder_report import write_folder_report
from pyramidai_mpi.patches.report import write_patch_report
from tests.browser import browser
from tests.patch_files import labelled, order_of, write_patches_of

LONG = "a-very-long-name-of-a-slide-without-any-blank-in-it-as-scanners-write-them-2026-11-29T12:34:56.tif"


def shown(page):
    return page.run("return [...document.querySelectorAll('.places')].filter(e => !e.hidden).map(e => e.dataset.layer)")


def chosen(page):
    """Ids of marked places, and numbers of chosen cards."""
    return page.run(
        "return [[...document.querySelectorAll('#map .chosen')].map(e => e.id),"
        " [...document.querySelectorAll('[aria-current]')].map(e => e.dataset.number)]"
    )


def focused(page):
    return page.run("return document.activeElement.dataset.number")


def test_every_control_works_by_mouse_and_by_keyboard_without_a_complaint(page_of_kept, tmp_path):
    with browser(tmp_path / "profile") as page:
        page.resize(1440, 900)
        page.open(page_of_kept)
        assert page.run("return document.documentElement.scrollWidth <= innerWidth")
        assert shown(page) == ["0", "1", "2", "3"]
        page.click("label:has(input[value='1'])")
        assert shown(page) == ["1"]
        page.click("label:has(input[value=none])")
        assert shown(page) == []
        page.click("label:has(input[value=all])")
        page.type("#strength", "\ue012" * 10)  # left arrow
        assert page.run("return Number(getComputedStyle(document.querySelector('.places')).opacity)") < 0.5

        numbers = page.run("return [...document.querySelectorAll('.card')].map(e => e.dataset.number)")
        assert len(numbers) == 30
        page.click(".cards li:nth-child(3) .card")
        assert chosen(page) == [[f"at-{numbers[2]}"], [numbers[2]]]
        assert focused(page) == numbers[2]
        page.press("Right", "Down")
        assert focused(page) == numbers[4]
        page.press("Enter")
        assert chosen(page) == [[f"at-{numbers[4]}"], [numbers[4]]]
        box = page.run(
            "return (({top, bottom}) => [top, bottom])(document.getElementById('map').getBoundingClientRect())"
        )
        assert box[1] > 0
        assert box[0] < 900
        page.press("Left")
        assert focused(page) == numbers[3]
        page.press("Tab")
        assert focused(page) == numbers[4]
        assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
        mark = page.run(
            "const [m, s] = ['#map', '#map .chosen .over'].map(q => document.querySelector(q).getBoundingClientRect());"
            "return [(s.left - m.left) / m.width, (s.top - m.top) / m.height, s.width / m.width]"
        )
        n = int(numbers[4])
        expected = ((64 * (n % 16) - 16) / 1024, (64 * (n // 16) - 16) / 768, 96 / 1024)
        assert mark == pytest.approx(expected, abs=0.012)  # its stroke has a width
        page.screenshot(tmp_path / "light.png")
        assert page.log() == []
    with Image.open(tmp_path / "light.png") as picture:
        assert np.asarray(picture.convert("L"))[5, 5] > 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lossless_slide):
    """Three files of odd names and many labels."""
    folder = tmp_path_factory.mktemp("folder")
    for n in range(3):
        labels = (*(f"a-label-of-{len(str(k)) * 12}-letters-and-more-{k}" for k in range(4)), "<b>x</b>")
        change = labelled(labels, np.arange(192) % 5, {"patient": f"{LONG}{n}"}, tumor=np.full(100, 0.25))

        def renamed(content, change=change, n=n):
            content = change(content)
            return replace(content, slide=replace(content.slide, name=f"{n}{LONG}"))

        write_patches_of(lossless_slide, folder / f"{n}{LONG}.patches.h5", order_of(pixels="none"), change=renamed)
    return folder


@pytest.mark.parametrize("dark", [False, True])
def test_both_pages_fit_a_phone_and_are_dark_where_their_reader_likes_it(folder, tmp_path, lossless_slide, dark):
    write_folder_report(folder, tmp_path / "folder.html")
    write_patch_report(folder / f"0{LONG}.patches.h5", tmp_path / "file.html", lossless_slide, per_label=3)
    with browser(tmp_path / "profile", dark=dark) as page:
        for name in ("folder.html", "file.html"):
            for width in (420, 360):
                page.resize(width, 800)
                page.open(tmp_path / name)
                wide = page.run(
                    "const wide = document.documentElement.clientWidth;"
                    "const all = 'section, section > *, header > *, td, td > *, .card > *, dd, #map, .group > *';"
                    "return [...document.querySelectorAll(all)]"
                    ".filter(e => e.getBoundingClientRect().right > wide + 0.5).map(e => e.outerHTML.slice(0, 80))"
                )
                assert wide == []
                assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            page.screenshot(tmp_path / "phone.png")
            with Image.open(tmp_path / "phone.png") as picture:
                assert (np.asarray(picture.convert("L"))[5, 5] < 60) == dark
        page.resize(1440, 900)
        page.open(tmp_path / "folder.html")
        assert page.run("return document.documentElement.scrollWidth <= innerWidth")
        assert page.log() == []
