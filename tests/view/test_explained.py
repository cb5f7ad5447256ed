"""Explained tiles over the slide: what is served of them, and what the page shows."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.export.explained.words import CAVEAT
from pyramidai_mpi.export.shown import SIGNED
from pyramidai_mpi.view.opening import open_view
from tests.browser import browser
from tests.explained import TILE, explained_tiles, explanation_of, write_explained
from tests.export.explained.test_stitched import painted
from tests.view.conftest import serving
from tests.view.test_page import open_page, pixels, place, shown, text, wait_for


@pytest.fixture(scope="module")
def explained(made):
    """Of the middle of the slide, signed, one tile unreadable."""
    places = np.array([(col, row) for row in range(10, 14) for col in range(13, 19)])
    tiles = explained_tiles(places, map_side=4, signed=True, unreadable=(3,))
    own = explanation_of(tiles, l0_size=(1024, 768), layer="<i>layer</i>")
    return replace(
        own,
        slide=replace(own.slide, name=made.slide.name, quickhash=made.slide.quickhash),
        model=replace(own.model, intended_use="demonstration"),
    )


@pytest.fixture(scope="module")
def address(explained, result, tmp_path_factory):
    path = write_explained(tmp_path_factory.mktemp("view") / "a.explained.h5", explained)
    with open_view(result, explained=path) as view, serving(view) as server:
        yield server.address


def ask(address, what) -> bytes:
    with urllib.request.urlopen(address + what, timeout=20) as answer:
        return answer.read()


def expected_colours(explained) -> np.ndarray:
    """Purple to orange of the stitched map, RGBA (96, 128, 4)."""
    values = painted(explained, 8)
    known = np.isfinite(values)
    share = np.nan_to_num(values.astype(float)) / np.quantile(
        np.abs(explained.tiles.maps[~np.isnan(explained.tiles.maps)]), 0.995
    )
    channels = [np.interp(share, [-1, -0.5, 0, 0.5, 1], [one[n] for one in SIGNED]) for n in range(3)]
    return np.where(known[..., None], np.stack([*channels, np.full(values.shape, 255)], axis=-1), 0)


@pytest.mark.parametrize("zoom", [0, 1])
def test_pieces_have_the_colours_of_the_stitched_map(address, explained, zoom):
    expected = expected_colours(explained).repeat(8 >> zoom, axis=0).repeat(8 >> zoom, axis=1)
    with Image.open(io.BytesIO(ask(address, f"explained/{zoom}/0_0.png"))) as picture:
        found = np.asarray(picture.convert("RGBA")).astype(int)
    height, width = found.shape[:2]
    np.testing.assert_array_equal(found[..., 3], expected[:height, :width, 3])
    assert np.abs(found - expected[:height, :width]).max() <= 2


def test_a_place_has_its_number_and_its_tile(address, explained):
    number = 8
    x, y = explained.tiles.l0_coords[number].tolist()
    found = json.loads(ask(address, f"explained/at/{x + 17}_{y + 5}"))
    assert found["attribution"] == explained.tiles.maps[number, 0, 2]
    (tile,) = found["tiles"]
    assert (tile["col"], tile["row"]) == tuple(explained.tiles.index[number])
    assert tile["score"] == explained.score[number]
    assert tile["areas"]["deletion"] == pytest.approx(
        np.trapezoid(explained.tiles.deletion[number].astype(float), dx=1 / 8)
    )
    assert tile["repeatability"] is None
    x, y = explained.tiles.l0_coords[3].tolist()
    unreadable = json.loads(ask(address, f"explained/at/{x}_{y}"))
    assert (unreadable["attribution"], unreadable["tiles"][0]["score"]) == (None, None)
    assert json.loads(ask(address, "explained/at/1_1")) == {"attribution": None, "tiles": []}


def test_nothing_is_served_of_what_was_not_given(server, address):
    for asked in ("explained/0/0_0.png", "explained/at/1_1"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask(server.address, asked)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(address, "explained/9/0_0.png")


def test_tiles_of_another_slide_are_refused(explained, result, tmp_path):
    other = replace(explained, slide=replace(explained.slide, quickhash="ff" * 32))
    with pytest.raises(InputError, match="not of that of"):
        open_view(result, explained=write_explained(tmp_path / "b.explained.h5", other)).__enter__()


def test_the_page_shows_maps_over_the_slide_and_says_what_they_are(address, explained, tmp_path):
    with browser(tmp_path / "profile", still=True) as page:
        page.resize(1440, 900)
        open_page(page, address)
        assert shown(page) == ["tissue", "explained", "slide"]
        said = text(page, "#layers li:has(#layer-explained)")
        for words in ("gradcam for tumor at level 0, layer <i>layer</i>", CAVEAT, "not for diagnosis"):
            assert words in said
        page.click("#layer-tissue")
        page.press(*["]"] * 9)
        x, y, d = place(page)
        box = page.run("const b = document.getElementById('viewer').getBoundingClientRect();"
                       "return [b.left + b.width / 2, b.top + b.height / 2]")  # fmt: skip
        colours = expected_colours(explained)

        def of(picture, number):
            """Pixels of the screen in the middle of a pixel of a tile's map, and its colour."""
            left, top = explained.tiles.l0_coords[number] + 20  # in the third column and row
            right, down = (left - x) / d + box[0], (top - y) / d + box[1]
            return picture[round(down), round(right)].astype(int), colours[top // 8, left // 8]

        def is_drawn():
            found, expected = of(pixels(page, tmp_path / "on.png"), 8)
            return np.abs(found - expected[:3]).max() <= 3

        wait_for(is_drawn)
        picture = pixels(page, tmp_path / "on.png")
        readable = [n for n in range(len(explained.tiles)) if n != 3]
        for number in readable:
            found, expected = of(picture, number)
            assert np.abs(found - expected[:3]).max() <= 3
        # the mouse tells of the tile below it
        left, top = explained.tiles.l0_coords[8] + TILE // 2
        page.hover("#viewer", round((left - x) / d), round((top - y) / d))
        wait_for(lambda: f"score {explained.score[8]:.3f}" in text(page, "#here-explained"))
        assert "insertion" in text(page, "#here-explained")
        page.click("#layer-explained")
        time.sleep(0.2)
        without = pixels(page, tmp_path / "off.png")
        assert all(np.abs(of(without, n)[0] - of(picture, n)[0]).max() > 10 for n in readable[:5])
        assert page.log() == []
