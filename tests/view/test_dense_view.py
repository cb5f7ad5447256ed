"""The view of a result with strides shows its cells."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.export.picture import score_colour
from pyramidai_mpi.view import maps
from pyramidai_mpi.view.opening import open_view
from pyramidai_mpi.view.pages import Pages
from tests.browser import browser
from tests.dense import THRESHOLDS, WINDOW, dense_file, painted, windows_in
from tests.view.conftest import serving
from tests.view.test_page import open_page, wait_for


@pytest.fixture(scope="module", params=["uniform", "adaptive"])
def path(request, lossless_slide, tmp_path_factory):
    return dense_file(request.param, lossless_slide, tmp_path_factory.mktemp("dense"))


@pytest.fixture(scope="module")
def view(path, lossless_slide):
    with open_view(path, lossless_slide) as opened:
        yield opened


def test_scores_have_a_pixel_a_cell(path, view):
    score, _ = painted(path)
    pixels = np.asarray(Image.open(io.BytesIO(view.scores)))
    shown = np.isfinite(score)
    assert np.array_equal(pixels[..., 3] > 0, shown)
    assert np.array_equal(pixels[shown][:, :3], np.rint(score_colour(score[shown])))


def test_decisions_are_those_of_cells(path, view):
    score, look = painted(path)
    said = json.loads(view.description)
    level, decision = np.frombuffer(view.decisions, np.uint8).reshape(2, *score.shape)
    assert (said["grid"]["rows"], said["grid"]["cols"]) == score.shape
    by_windows = [n for n, one in enumerate(said["levels"]) if one["stride"] is not None]
    assert by_windows
    readable = np.isin(level, by_windows) & (decision != 2)
    assert np.array_equal(level[readable], look[readable])
    assert np.array_equal(decision[readable] == 1, score[readable] >= THRESHOLDS[0])


def test_a_place_is_told_with_score_stride_and_level(path, view):
    score, look = painted(path)
    pages, said = Pages(view), json.loads(view.description)
    side = said["levels"][0]["side"]
    for y, x in np.argwhere(look == 0)[::7].tolist():
        found = json.loads(pages.answer(f"at/{int((x + 0.5) * side)}_{int((y + 0.5) * side)}").body)
        assert (found[0]["level"], found[0]["col"], found[0]["row"]) == (0, x, y)
        assert found[0]["stride"] == side
        assert np.float32(found[0]["score"]) == score[y, x]
        assert found[0]["outcome"] == ("positive" if score[y, x] >= THRESHOLDS[0] else "negative")


def test_the_best_are_windows_apart_with_their_pixels(path, view, stored_images):
    best = json.loads(view.description)["best"]
    highest = max(
        one[4] for n, level in enumerate(json.loads(view.description)["levels"]) if level["stride"]
        for one in windows_in(path, n) if one[5] == 1
    )  # fmt: skip
    assert np.float32(best[0]["score"]) == np.float32(highest)
    for one in best:
        near = [max(abs(one["x"] - other["x"]), abs(one["y"] - other["y"])) for other in best if other is not one]
        assert min(near) >= WINDOW / 2
        assert one["side"] == WINDOW
    one = best[0]
    body = Pages(view).answer(f"thumbnail/{one['level']}/{one['col']}_{one['row']}").body
    small = np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(float)
    window = stored_images[0][one["y"] : one["y"] + WINDOW, one["x"] : one["x"] + WINDOW]
    assert np.allclose(small.mean(axis=(0, 1)), window.mean(axis=(0, 1)), atol=4)


def test_more_cells_than_a_browser_draws_are_refused(path, monkeypatch):
    monkeypatch.setattr(maps, "MOST_CELLS", 100)
    with pytest.raises(UsageError, match="more than a browser draws"), open_view(path):
        pass


def test_the_page_draws_and_tells_cells(path, view, tmp_path):
    score, look = painted(path)
    y, x = np.argwhere((look == 0) & (score > THRESHOLDS[0])).tolist()[0]
    side = int(json.loads(view.description)["levels"][0]["side"])
    with serving(view) as server, browser(tmp_path, still=True) as page:
        page.resize(1000, 700)
        place = f"#x={x * side + side // 2}&y={y * side + side // 2}&d=0.5&layers=scores&opacity=100"
        open_page(page, server.address, place)
        told = "return document.querySelector('#here tbody').textContent"
        wait_for(lambda: f"stride {side}{score[y, x]:.3f}positive" in page.run(told))
        page.screenshot(tmp_path / "seen.png")
        assert page.log() == []
        middle = page.run(
            "const { left, top, width, height } = document.getElementById('viewer').getBoundingClientRect();"
            "return [left + width / 2, top + height / 2]"
        )
    seen = np.asarray(Image.open(tmp_path / "seen.png").convert("RGB")).astype(int)
    colour = score_colour(np.array([score[y, x]]))[0]
    assert abs(seen[int(middle[1]), int(middle[0])] - colour).max() <= 3
