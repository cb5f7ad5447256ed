"""The page of a report in a browser: mouse, finger, keyboard, narrow and dark."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.types import Decision, outcome_names
from pyramidai_mpi.export.report import write_report
from tests.browser import browser
from tests.results import highest, write_file


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


def said(page):
    """What the picture tells, line by line."""
    return page.run("return [...document.querySelectorAll('#where p')].map(line => line.textContent)")


def expected_lines(made, x, y):
    """What the result says of a level-0 pixel, the finest level first."""
    lines = []
    for n, level in sorted(made.tree.levels.items()):
        at = np.flatnonzero((level.index == [x // (64 * 2**n), y // (64 * 2**n)]).all(axis=1))
        for row in at.tolist():
            word = outcome_names(n)[level.decision[row]]
            number = "" if level.decision[row] == Decision.UNREADABLE else f"{level.probability[row, 1]:.4f} "
            lines.append(f"{number}{word}, level {n}")
    return lines


def pixel_said(page):
    return tuple(map(int, re.match(r"x (\d+), y (\d+) px", said(page)[-1]).groups()))


def marked(page, mark):
    """Centre and side of a mark, from the view's corner; None where it is hidden."""
    return page.run(
        "const m = document.getElementById(arguments[0]); if (m.hidden) return null;"
        "const a = m.getBoundingClientRect(), b = document.getElementById('view').getBoundingClientRect();"
        "return [a.left + a.width / 2 - b.left, a.top + a.height / 2 - b.top, a.width]",
        mark,
    )


def test_the_scores_of_a_place_are_told_to_mouse_finger_and_keyboard(report, made, tmp_path):
    with browser(tmp_path / "profile") as page:
        page.resize(1440, 900)
        page.open(report)
        places = set()
        for right, down, kind in [(-200, -100, "mouse"), (30, 90, "mouse"), (150, -60, "touch"), (-60, 120, "touch")]:
            page.point("#view", right, down, kind)
            x, y = pixel_said(page)
            assert said(page)[:-1] == (expected_lines(made, x, y) or ["not looked at"])
            places.add((x, y))
        assert len(places) == 4
        page.click("label:has(input[value=level2])")
        page.point("#view", 30, 90, "mouse")
        lines = expected_lines(made, *pixel_said(page))
        assert said(page)[0] == next(line for line in lines if line.endswith("level 2"))
        assert sorted(said(page)[:-1]) == sorted(lines)
        page.click("label:has(input[value=scores])")
        page.click("#fit")
        page.type("#view", "+")
        before = pixel_said(page)
        for key in ("\ue014", "\ue014", "\ue015"):  # right, right, down
            page.type("#view", key)
        x, y = pixel_said(page)
        assert x > before[0]
        assert y > before[1]
        assert said(page)[:-1] == (expected_lines(made, x, y) or ["not looked at"])
        assert page.run("return getComputedStyle(document.getElementById('cross')).display") == "block"
        assert page.log() == []


def test_a_tile_of_the_list_is_found_by_one_click_or_key(report, made, tmp_path):
    tiles, rows = made.tree.levels[0], highest(made)
    with browser(tmp_path / "profile") as page:
        page.resize(1440, 900)
        page.open(report)
        for place_in_list, how in ((1, "click"), (7, "click"), (3, "key")):
            card = f".cards li:nth-child({place_in_list}) .card"
            if how == "click":
                page.click(card)
            else:
                page.type(card, "\ue007")  # Enter
            n = rows[place_in_list - 1]
            size = page.run("const v = document.getElementById('view'); return [v.clientWidth, v.clientHeight]")
            x, y, side = marked(page, "chosen")
            assert (x, y) == pytest.approx((size[0] / 2, size[1] / 2), abs=1.5)
            assert side > 40
            assert said(page)[0].startswith(f"{tiles.probability[n, 1]:.4f} ")
            at = pixel_said(page)
            assert (at[0] // 64, at[1] // 64) == tuple(tiles.index[n].tolist())
            seen = page.run(
                "const box = document.getElementById('view').getBoundingClientRect();"
                "return [box.top, box.bottom, innerHeight]"
            )
            assert seen[0] >= -1
            assert seen[1] <= seen[2] + 1
            assert page.run("return document.querySelectorAll('[aria-current]').length") == 1
        assert page.run("return document.querySelectorAll('#stage .tile').length") == 3
        page.click("#zoom-out")
        assert marked(page, "chosen")[2] == pytest.approx(side / 1.5, rel=0.05)
        page.resize(1000, 800)
        assert marked(page, "chosen") is not None
        assert page.log() == []


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(made, tmp_path, lossless_slide, dark):
    name = "a-very-long-name-of-a-slide-without-any-blank-in-it-as-scanners-write-them-2026-11-29T12:34:56.tif"
    columns = [("rank", "<i4"), ("host", "S64"), ("busy_s", "<f8"), ("tasks", "<i8"), ("tasks_stolen", "<i8")]
    hosts = np.array([(0, b"node0123456789.cluster.example.org", 3.5, 1200, 30)], columns)
    execution = replace(made.execution, ranks=hosts, batches=made.execution.batches[:3])
    changed = replace(made, slide=replace(made.slide, name=name), execution=execution)
    write_report(write_file(tmp_path / "out.h5", changed), tmp_path / "out.html", lossless_slide)
    with browser(tmp_path / "profile", dark=dark) as page:
        for width in (420, 360):
            page.resize(width, 800)
            page.open(tmp_path / "out.html")
            wide = page.run(
                "const wide = document.documentElement.clientWidth;"
                "const all = 'section, section > *, header > *, td, .rank > *, .card > *, dd';"
                "return [...document.querySelectorAll(all)]"
                ".filter(e => e.getBoundingClientRect().right > wide + 0.5).map(e => e.outerHTML.slice(0, 80))"
            )
            assert wide == []
            assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.log() == []
