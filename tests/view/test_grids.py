"""What the page is told of the tiles is what the tables of the result say."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.export.picture import score_colour
from pyramidai_mpi.view.description import tiles_over
from pyramidai_mpi.view.maps import NOT_ANALYSED, LevelMap
from pyramidai_mpi.view.opening import open_view
from tests.results import result_of, write_file

COLS, ROWS = 23, 18


@pytest.fixture(scope="module", params=list(Mode))
def made(request):
    """A result on an uneven grid: its last column and row are no whole tiles."""
    return result_of(mode=request.param)


@pytest.fixture(scope="module")
def view(made, tmp_path_factory):
    with open_view(write_file(tmp_path_factory.mktemp("grids") / "out.h5", made)) as opened:
        yield opened


def looked_up(made):
    """For each level-0 tile: score of the finest readable tile, and level and decision of the finest, by dictionary."""
    tiles = {
        (n, *map(int, index)): (float(probability[1]), int(decision))
        for n, level in made.tree.levels.items()
        for index, probability, decision in zip(level.index, level.probability, level.decision, strict=True)
    }
    score = np.full((ROWS, COLS), np.nan)
    finest = np.full((2, ROWS, COLS), NOT_ANALYSED)
    for row in range(ROWS):
        for col in range(COLS):
            over = [(n, *tiles[key]) for n in range(3) if (key := (n, col >> n, row >> n)) in tiles]
            if over:
                finest[:, row, col] = over[0][0], over[0][2]
            score[row, col] = next((s for _, s, d in over if d != Decision.UNREADABLE), np.nan)
    return score, finest


def test_the_picture_of_scores_has_a_pixel_for_each_level_0_tile(view, made):
    score, _ = looked_up(made)
    with Image.open(io.BytesIO(view.scores)) as picture:
        pixels = np.asarray(picture)
    shown = np.isfinite(score)
    assert shown.any()
    assert np.array_equal(pixels[..., 3] == 255, shown)
    assert np.array_equal(pixels[shown, :3], np.rint(score_colour(score[shown])))


def test_the_table_of_decisions_has_the_finest_tile_over_each(view, made):
    table = np.frombuffer(view.decisions, np.uint8).reshape(2, ROWS, COLS)
    assert np.array_equal(table, looked_up(made)[1])


def test_the_table_of_tissue_is_the_mask(view, made):
    mask = made.tissue.mask
    bits = np.unpackbits(np.frombuffer(view.tissue, np.uint8))[: mask.size]
    assert np.array_equal(bits.reshape(mask.shape), mask)


def test_the_tiles_over_a_place_are_those_of_the_tables(view, made):
    rng = np.random.default_rng(0)
    width, height = made.slide.l0_size
    for x, y in zip(rng.integers(0, width, 200).tolist(), rng.integers(0, height, 200).tolist(), strict=True):
        expected = []
        for n, level in made.tree.levels.items():
            here = (level.index == (x // (64 << n), y // (64 << n))).all(axis=1)
            expected += [(n, *pair) for pair in zip(level.probability[here, 1], level.decision[here], strict=True)]
        found = tiles_over(view.tiles, x, y)
        assert [one["level"] for one in found] == [n for n, _, _ in expected]
        for one, (n, score, decision) in zip(found, expected, strict=True):
            word = {0: "stopped" if n else "negative", 1: "zoomed into" if n else "positive", 2: "unreadable"}[
                int(decision)
            ]
            assert one["outcome"] == word
            assert one["score"] is None if decision == 2 else one["score"] == pytest.approx(float(score))
            assert (one["x"], one["y"]) == (x // (64 << n) * (64 << n), y // (64 << n) * (64 << n))


def test_the_best_tiles_are_those_of_the_table_sorted(view, made):
    level = made.tree.levels[0]
    order = sorted(range(len(level)), key=lambda i: (-np.nan_to_num(level.probability[i, 1], nan=-1), i))[:20]
    best = json.loads(view.description)["best"]
    assert [(one["col"], one["row"]) for one in best] == [tuple(map(int, level.index[i])) for i in order]
    assert all(one["level"] == 0 and one["score"] is not None for one in best)


def test_of_equal_scores_the_first_row_by_row_are_best():
    score = np.full((4, 5), 0.5, np.float32)
    score[3, 4], score[0, 0] = 0.9, np.nan
    best = LevelMap(score, np.zeros((4, 5), np.uint8)).best(4)
    assert best.tolist() == [[4, 3], [1, 0], [2, 0], [3, 0]]


def test_the_description_counts_what_the_tables_hold(view, made):
    said = json.loads(view.description)
    for n, level in made.tree.levels.items():
        assert said["levels"][n]["analysed"] == len(level)
        assert said["levels"][n]["zoomed"] == (level.decision == Decision.ZOOM).sum()
        assert said["levels"][n]["unreadable"] == (level.decision == Decision.UNREADABLE).sum()


def test_a_result_without_any_tile_can_be_viewed_and_says_so(tmp_path):
    with open_view(write_file(tmp_path / "out.h5", result_of(np.zeros((10, 12), bool)))) as view:
        said = json.loads(view.description)
    assert said["best"] == []
    assert "no tissue found" in said["warning"]


def test_a_model_for_demonstration_is_said_to_be_one(tmp_path, made):
    of_demonstration = replace(made, model=replace(made.model, intended_use="demonstration"))
    with open_view(write_file(tmp_path / "out.h5", of_demonstration)) as view:
        assert "scores mean nothing on real slides" in json.loads(view.description)["claim"]
