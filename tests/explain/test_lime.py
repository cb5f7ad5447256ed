"""LIME beside the paper's steps in float64 by another library's ridge regression, and models that it finds again."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_distances

from pyramidai_mpi.explain.cells import cell_means
from pyramidai_mpi.explain.lime import Lime, shortest_solution
from pyramidai_mpi.explain.methods import Fill
from pyramidai_mpi.explain.perturbation import scores_of
from pyramidai_mpi.explain.replacement import replacement
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.explain.conftest import KEY


@pytest.fixture(scope="module")
def n(tile):
    """How many superpixels the tile has."""
    return int(Lime(63, segments=20).superpixels(tile).max()) + 1


def test_superpixels_are_numbered_without_gaps_and_the_same_each_time(tile, n):
    found = Lime(63, segments=20).superpixels(tile)
    assert (np.unique(found) == np.arange(n)).all()
    assert 8 <= n <= 30
    assert (Lime(63, 99, 20, 0.5).superpixels(tile.copy()) == found).all()


def test_the_first_mask_is_the_tile_and_others_lack_superpixels(tile, n):
    lime = Lime(63, segments=20, fill=Fill.GLASS)
    labels, left = lime.superpixels(tile), lime.present(n, range(40), KEY)
    pictures = lime.perturbed(tile, range(40), KEY)
    assert (pictures[0] == tile).all()
    assert left[0].all()
    assert 0.4 < left[1:].mean() < 0.6
    for picture, mask in zip(pictures, left, strict=True):
        assert (picture[mask[labels]] == tile[mask[labels]]).all()
        assert (picture[~mask[labels]] == 255).all()


def transcribed(z, scores, kernel, ridge):
    """Section 3.3: kernel of the distance from the whole, weighted least squares with a penalty and an intercept."""
    distance = cosine_distances(z[1:], np.ones((1, z.shape[1])))[:, 0]
    near = np.exp(-(np.concatenate([[0], distance]) ** 2) / kernel**2)
    return Ridge(alpha=ridge, fit_intercept=True).fit(z.astype(np.float64), scores, sample_weight=near).coef_


@pytest.mark.parametrize(("kernel", "ridge"), [(0.25, 1.0), (0.1, 1e-3), (10.0, 50.0)])
def test_weights_are_those_of_the_paper(tile, n, kernel, ridge):
    lime = Lime(63, 300, 20, kernel, ridge)
    scores = np.random.default_rng(2).random(300).astype(np.float32)
    z = lime.present(n, range(300), KEY)
    found = lime.weights(tile, scores, KEY)
    assert found.dtype == np.float64
    assert np.allclose(found, transcribed(z, scores.astype(np.float64), kernel, ridge), atol=1e-9)
    laid_out = cell_means(found[lime.superpixels(tile)], (8, 8))
    assert np.allclose(lime.map_of(tile, scores, KEY), laid_out, atol=1e-6)


@pytest.mark.parametrize("n_masks", [12, 21, 300])
def test_of_many_solutions_it_takes_the_shortest(n_masks):
    """As the pseudo-inverse does: of fewer masks than superpixels, of as many, and of more."""
    table = np.random.default_rng(5).integers(0, 2, (n_masks, 20)).astype(np.float64)
    table -= table.mean(axis=0)
    scores = np.random.default_rng(6).random(n_masks)
    expected = np.linalg.pinv(table) @ scores
    assert np.allclose(shortest_solution(table.T @ table, table.T @ scores), expected, atol=1e-9)


def test_weights_do_not_depend_on_the_threads_of_linear_algebra():
    """No product of matrices is left to a library, and none to its solvers."""
    program = (
        "import hashlib, numpy as np; from pyramidai_mpi.explain.lime import Lime; from tests.tiffs import textured;"
        "tile, scores = textured(224, 224, seed=1), np.random.default_rng(1).random(1024).astype(np.float32);"
        "found = Lime(224).weights(tile, scores, (1, 2, 3, 4, 5));"
        "print(len(found) > 40, hashlib.sha256(found.tobytes()).hexdigest())"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | {"OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for threads in ("1", "2")
    ]
    one, two = (run.communicate(timeout=100)[0] for run in runs)
    assert one.startswith("True")
    assert one == two


@pytest.mark.parametrize("fill", Fill)
def test_it_finds_a_linear_model_again(tile, linear, n, fill):
    """Each superpixel's weight is what the score loses with it."""
    lime = Lime(63, 200, 20, ridge=1e-9, fill=fill)
    labels = lime.superpixels(tile)
    filled = replacement(tile, fill)
    without = np.stack([np.where((labels == k)[..., None], filled, tile) for k in range(n)])
    expected = linear(tile[None]).astype(np.float64) - linear(without)
    found = lime.weights(tile, scores_of(lime, tile, linear, KEY), KEY)
    assert np.allclose(found, expected, atol=2e-6)
    assert abs(expected).max() > 0.01


def test_a_block_is_a_piece_of_the_whole(tile):
    lime = Lime(63)
    whole = lime.perturbed(tile, range(130), KEY)
    assert (lime.perturbed(tile, range(64, 128), KEY) == whole[64:128]).all()
    assert not (lime.perturbed(tile, range(64, 128), (*KEY[:-1], 1)) == whole[64:128]).all(axis=(1, 2, 3)).any()


def test_the_repeatability_is_the_correlation_with_another_seed(tile, linear):
    lime = Lime(63, 60, 20, fill=Fill.GLASS)
    noise = np.random.default_rng(3)
    keys = [(seed, *KEY[1:]) for seed in range(8)]
    scores = [scores_of(lime, tile, linear, key) + noise.normal(0, 0.12, 60).astype(np.float32) for key in keys]
    foretold = np.mean([lime.repeatability(tile, s, key) for s, key in zip(scores, keys, strict=True)])
    maps = [lime.map_of(tile, s, key).ravel() for s, key in zip(scores, keys, strict=True)]
    seen = np.corrcoef(maps)[np.triu_indices(8, 1)].mean()
    assert 0.2 < seen < 0.95
    assert foretold == pytest.approx(seen, abs=0.15)
    assert np.isnan(lime.repeatability(tile, scores[0][:3], KEY))


def test_a_tile_of_one_colour_has_a_flat_map_and_no_repeatability():
    tile = np.full((63, 63, 3), 200, np.uint8)
    lime = Lime(63, 64, 20)
    scores = scores_of(lime, tile, lambda pictures: np.full(len(pictures), 0.25, np.float32), KEY)
    assert np.allclose(lime.map_of(tile, scores, KEY), 0)
    assert np.isnan(lime.repeatability(tile, scores, KEY))
