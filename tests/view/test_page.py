"""The page in a browser: every control, by mouse and by keys, wide and narrow, light and dark."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from urllib.parse import parse_qs

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.export.picture import score_colour
from pyramidai_mpi.view.colours import POSITIVE, stopped
from pyramidai_mpi.view.opening import open_view
from tests.browser import browser
from tests.results import write_file
from tests.view.conftest import HOSTILE, serving
from tests.view.test_opening import SQUARE

LAYERS = ["scores", "decisions", "tissue", "regions", "annotations", "slide"]


@pytest.fixture(scope="module")
def address(made, lossless_slide, tmp_path_factory):
    """Of a page whose names are meant to harm."""
    folder = tmp_path_factory.mktemp("page")
    model = replace(made.model, name="<script>document.title='run'</script>", intended_use="demonstration")
    named = replace(made, slide=replace(made.slide, name=HOSTILE), model=model)
    drawn = folder / "<i>drawn.geojson"
    drawn.write_text(json.dumps(SQUARE), encoding="utf-8")
    with open_view(write_file(folder / "out.h5", named), lossless_slide, drawn) as view, serving(view) as server:
        yield server.address


@pytest.fixture(scope="module")
def wide(address, tmp_path_factory):
    """One browser for the tests of this page; each opens it anew."""
    with browser(tmp_path_factory.mktemp("profile"), still=True) as page:
        page.resize(1440, 900)
        yield page


def wait_for(question):
    """Ask until the answer is yes."""
    deadline = time.monotonic() + 30
    while not (answer := question()):
        assert time.monotonic() < deadline
        time.sleep(0.03)
    return answer


def open_page(page, address, fragment=""):
    page.open("about:blank")
    page.open(address + fragment)
    wait_for(lambda: page.run("return document.body.dataset.ready"))


@pytest.fixture
def page(wide, address):
    open_page(wide, address)
    yield wide
    assert wide.log() == []


def place(page) -> tuple[float, float, float]:
    """Middle of the view in level-0 pixels and level-0 pixels a screen pixel, as the address says once all is still."""
    time.sleep(0.08)  # the mouse is heard of in the next frame
    wait_for(lambda: page.run("return document.getElementById('stage').ariaBusy") == "false")
    said = parse_qs(page.run("return location.hash")[1:])
    return tuple(float(said[name][0]) for name in ("x", "y", "d"))


def shown(page) -> list[str]:
    return page.run("return [...document.querySelectorAll('#layers input')].filter(e => e.checked)"
                    ".map(e => e.id.slice(6))")  # fmt: skip


def text(page, selector) -> str:
    return page.run(f"return document.querySelector('{selector}').textContent")


def pixels(page, path) -> np.ndarray:
    page.screenshot(path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def fits(page) -> bool:
    return page.run("return document.documentElement.scrollWidth <= innerWidth"
                    " && document.documentElement.scrollHeight <= innerHeight")  # fmt: skip


def test_names_are_text(page):
    assert text(page, "#name") == page.run("return document.title") == HOSTILE
    assert "<script>document.title" in text(page, "#about")
    assert "<i>drawn.geojson" in text(page, "#layers")
    assert page.run("return document.querySelectorAll('#name *, #about *, #layers i:not(.swatch)').length") == 0
    assert "scores mean nothing on real slides" in text(page, "#banners [role=alert]")


def test_layers_go_on_and_off_by_mouse_and_key(page):
    assert shown(page) == ["scores", "tissue", "annotations", "slide"]
    for number, name in enumerate(LAYERS, 1):
        before = name in shown(page)
        page.click(f"#layer-{name}")
        assert (name in shown(page)) is not before
        page.press(str(number))
        assert (name in shown(page)) is before


def test_what_is_drawn_has_the_colours_of_the_tables(page, made, tmp_path):
    """With full opacity and without the slide, the middle of each tile on the screen has its tile's colour."""
    for name in ("tissue", "annotations", "slide"):
        page.click(f"#layer-{name}")
    page.press(*["]"] * 5)
    assert page.run("return document.getElementById('opacity').value") == "100"
    x, y, d = place(page)
    box = page.run("const b = document.getElementById('viewer').getBoundingClientRect();"
                   "return [b.left + b.width / 2, b.top + b.height / 2]")  # fmt: skip
    scores = pixels(page, tmp_path / "scores.png")
    page.press("1", "2")
    decisions = pixels(page, tmp_path / "decisions.png")
    level = made.tree.levels[0]
    n_compared = 0
    for (col, row), probability, decision in zip(level.index.tolist(), level.probability, level.decision, strict=True):
        right, down = ((col + 0.5) * 64 - x) / d + box[0], ((row + 0.5) * 64 - y) / d + box[1]
        if not (box[0] - 300 < right < box[0] + 300) or decision == 2:  # clear of buttons and of the small picture
            continue
        n_compared += 1
        assert np.abs(scores[round(down), round(right)] - score_colour(probability[1:])[0]).max() <= 1
        patch = decisions[round(down) - 12 : round(down) + 12, round(right) - 12 : round(right) + 12].reshape(-1, 3)
        expected = POSITIVE if decision == 1 else stopped(0, 3)
        share = (np.abs(patch - np.array(expected)).max(axis=1) <= 1).mean()
        assert share == 1 if decision == 0 else 0.4 < share < 0.9  # positive ones have stripes
    assert n_compared > 20


def test_the_slide_itself_is_shown(page, stored_images, tmp_path):
    for name in ("scores", "tissue", "annotations"):
        page.click(f"#layer-{name}")
    x, y, d = place(page)
    time.sleep(0.5)
    left, top = page.run("const b = document.getElementById('viewer').getBoundingClientRect();"
                         "return [b.left + b.width / 2, b.top + b.height / 2]")  # fmt: skip
    seen = pixels(page, tmp_path / "slide.png")
    for col, row in [(8, 8), (20, 5), (12, 20)]:  # patches of 32 px of one colour and noise
        right, down = ((col + 0.5) * 32 - x) / d + left, ((row + 0.5) * 32 - y) / d + top
        patch = seen[round(down) - 6 : round(down) + 6, round(right) - 6 : round(right) + 6].mean(axis=(0, 1))
        expected = stored_images[0][row * 32 : (row + 1) * 32, col * 32 : (col + 1) * 32].mean(axis=(0, 1))
        assert np.abs(patch - expected).max() < 8


def test_it_zooms_and_moves_by_mouse_button_and_key(page):
    x, y, d = whole = place(page)
    for deeper, back in (("#zoom-in", "#zoom-out"), ("+", "-")):
        do = page.click if deeper.startswith("#") else page.press
        do(deeper)
        assert place(page) == pytest.approx((x, y, d / 2), rel=0.01)
        do(back)
        assert place(page) == pytest.approx(whole, rel=0.01)
    page.press("+", "+")
    x, y, d = place(page)
    assert d == pytest.approx(whole[2] / 4, rel=0.01)
    width, height = page.run("const v = document.getElementById('viewer'); return [v.clientWidth, v.clientHeight]")
    for key, right, down in (("Right", 1, 0), ("Down", 0, 1), ("Left", -1, 0), ("Up", 0, -1)):
        page.press(key)
        x, y = x + 0.15 * right * width * d, y + 0.15 * down * height * d
        assert place(page) == pytest.approx((x, y, d), rel=0.01, abs=2)
    page.press("Shift+Right")
    assert place(page)[0] == pytest.approx(x + 0.9 * width * d, abs=3)
    page.press("Shift+Left")
    page.drag("#viewer", -120, -60)
    moved = place(page)
    assert moved[0] == pytest.approx(x + 120 * d, abs=25 * d)  # it glides on for a while
    assert moved[1] == pytest.approx(y + 60 * d, abs=25 * d)
    page.turn_wheel("#viewer", -300)
    assert place(page)[2] < d
    page.press("0")
    assert place(page) == pytest.approx(whole, rel=0.01)
    page.turn_wheel("#viewer", -300)
    page.click("#whole")
    assert place(page) == pytest.approx(whole, rel=0.01)


def test_a_tile_is_found_with_one_click_and_walked_through_by_keys(page, made):
    level = made.tree.levels[0]
    order = sorted(range(len(level)), key=lambda i: (-np.nan_to_num(level.probability[i, 1], nan=-1), i))
    middles = [tuple((n + 0.5) * 64 for n in level.index[i].tolist()) for i in order]
    page.click("#best li:nth-child(3) button")
    assert place(page)[:2] == pytest.approx(middles[2], abs=1)
    assert text(page, "#best [aria-current=true] b") == f"{level.probability[order[2], 1]:.3f}"
    steps = [(page.press, "n", 3), (page.press, "p", 2), (page.click, "#previous", 1), (page.click, "#next", 2)]
    for act, what, expected in steps:
        act(what)
        assert place(page)[:2] == pytest.approx(middles[expected], abs=1)
    pictures = "return [...document.querySelectorAll('#best img')].map(e => e.naturalWidth)"
    assert wait_for(lambda: (widths := page.run(pictures)) and all(widths) and widths) == [96] * 20


def test_the_tile_under_the_pointer_is_told(page, made):
    page.click("#best li:nth-child(1) button")
    place(page)
    page.hover("#viewer", 5, 5)
    level = made.tree.levels[0]
    best = level.probability[:, 1][np.isfinite(level.probability[:, 1])].max()
    wait_for(lambda: f"level 0 · {best:.3f} positive" in text(page, "#where"))
    assert text(page, "#here-place").startswith("Under the pointer: x ")
    rows = page.run("return [...document.querySelectorAll('#here tbody tr')].map(r => r.textContent)")
    assert len(rows) == 3
    assert rows[0].startswith("0 · 0.253 µm/px")
    page.hover("#panel", 0, 0)
    wait_for(lambda: text(page, "#here-place").startswith("Middle of the view: x "))


def test_the_scale_bar_is_as_long_as_it_says(page, made):
    for _ in range(3):
        _, _, d = place(page)
        number, unit = text(page, "#scale span").split()
        um = float(number) * {"µm": 1, "mm": 1000}[unit]
        bar = page.run("return document.querySelector('#scale i').getBoundingClientRect().width")
        assert bar == pytest.approx(um / made.slide.mpp / d, rel=0.02)
        assert 40 < bar <= 141
        page.press("+")


def test_opacity_follows_slider_and_keys(page):
    page.type("#opacity", "\ue014\ue014")  # right arrow
    assert text(page, "#opacity-value") == "65 %"
    page.press("[", "[", "]")
    assert text(page, "#opacity-value") == "55 %"


def test_help_lists_all_keys_and_closes(page):
    is_open = "return document.getElementById('help').open"
    page.press("?")
    assert page.run(is_open)
    page.press("1", "n")  # keys do nothing beneath it
    assert "scores" in shown(page)
    page.press("Escape")
    assert not page.run(is_open)
    page.click("#help-open")
    assert page.run(is_open)
    page.click("#help form button")
    assert not page.run(is_open)


def test_the_panel_goes_and_comes_back(page):
    hidden = "return document.getElementById('panel').hidden"
    page.press("l")
    assert page.run(hidden)
    assert page.run("return document.getElementById('panel-toggle').getAttribute('aria-expanded')") == "false"
    page.click("#panel-toggle")
    assert not page.run(hidden)


def test_the_address_brings_back_place_and_layers(page, address):
    open_page(page, address, "#x=300&y=200&d=0.5&layers=decisions,slide&opacity=80")
    assert place(page) == pytest.approx((300, 200, 0.5), rel=0.01)
    assert shown(page) == ["decisions", "slide"]
    assert text(page, "#opacity-value") == "80 %"
    page.run("location.hash = '#x=600&y=400&d=1&layers=scores'")
    assert place(page) == pytest.approx((600, 400, 1), rel=0.01)
    open_page(page, address, "#x=NaN&y=<b>&d=-1&layers=none&opacity=1e9")  # nonsense is no place
    assert place(page)[2] > 0


def test_everything_is_reached_by_tab_in_order_and_has_a_name(page):
    order = []
    for _ in range(16):
        page.press("Tab")
        order.append(page.run("const e = document.activeElement; return e.id || e.className"))
    assert order[:3] == ["panel-toggle", "help-open", "openseadragon-canvas"]
    boxes = [f"layer-{name}" for name in LAYERS]
    assert order[3:] == ["zoom-in", "zoom-out", "whole", *boxes, "opacity", "previous", "next", ""]
    names = page.run("""return [...document.querySelectorAll("button, input, .openseadragon-canvas")]
        .filter(e => e.tabIndex >= 0)
        .map(e => e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent)""")
    assert len(names) > 30
    assert all(name.strip() for name in names)
    before = shown(page)
    page.run("document.getElementById('layer-scores').focus()")
    page.press("Space")
    assert shown(page) == before[1:]


def test_regions_are_drawn_when_they_are_asked_for(page, tmp_path):
    for name in ("scores", "tissue", "annotations", "slide"):
        page.click(f"#layer-{name}")
    time.sleep(0.5)
    before = pixels(page, tmp_path / "before.png")
    page.click("#layer-regions")
    time.sleep(0.5)
    after = pixels(page, tmp_path / "after.png")
    drawn = (np.abs(after[60:, :1100] - np.array(POSITIVE)).max(axis=2) < 30).sum()
    assert drawn > 1000
    assert (np.abs(before[60:, :1100] - np.array(POSITIVE)).max(axis=2) < 30).sum() < drawn / 5


def test_it_fits_a_wide_window(page, tmp_path):
    assert fits(page)
    assert pixels(page, tmp_path / "wide.png")[5, 5].min() > 200


def test_a_whole_slide_stays_whole_when_the_window_changes(page, made):
    x, y, d = place(page)
    page.resize(800, 600)
    try:
        wait_for(lambda: place(page)[2] > 1.3 * d)
        assert place(page)[:2] == pytest.approx((x, y), abs=2)
        across = page.run("return document.getElementById('viewer').clientWidth")
        assert place(page)[2] * across > 0.99 * made.slide.l0_size[0]
    finally:
        page.resize(1440, 900)


def test_it_fits_a_narrow_window_in_the_dark(address, tmp_path):
    with browser(tmp_path / "profile", dark=True) as page:
        page.resize(420, 800)
        open_page(page, address)
        assert fits(page)
        assert page.run("return document.getElementById('panel').hidden")
        assert pixels(page, tmp_path / "dark.png")[5, 5].max() < 60
        page.click("#panel-toggle")
        page.click("#layer-decisions")
        assert "decisions" in shown(page)
        page.click("#best li:nth-child(2) button")
        assert page.run("return document.getElementById('panel').hidden")  # it made room for the tile
        page.click("#zoom-in")
        page.click("#help-open")
        assert fits(page)
        page.click("#help form button")
        assert page.log() == []


@pytest.mark.real
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (420, 800)])
def test_a_real_slide_can_be_looked_at(wide, lymph_node, tmp_path, width, height):
    result, slide = lymph_node
    with open_view(result, slide) as view, serving(view) as server:
        wide.resize(width, height)
        open_page(wide, server.address)
        assert fits(wide)
        whole = place(wide)
        wide.press("n")
        x, y, d = place(wide)
        assert d < whole[2] / 20
        best = view.tiles.maps[0].best(1)[0]
        assert (x, y) == pytest.approx(((best[0] + 0.5) * 64, (best[1] + 0.5) * 64), abs=1)
        wide.press("1", "3")  # the slide alone
        time.sleep(0.8)
        seen = pixels(wide, tmp_path / "node.png")[height // 3 : height // 2, 60 : width // 2]
        assert seen.std() > 5  # tissue, not an empty stage
        assert wide.log() == []
        wide.open("about:blank")
        wide.resize(1440, 900)
