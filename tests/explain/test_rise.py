"""RISE beside the paper's own steps in float64, and its expectation on a linear score."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import resize

from pyramidai_mpi.explain.cells import cell_means
from pyramidai_mpi.explain.chance import uniforms
from pyramidai_mpi.explain.methods import Fill
from pyramidai_mpi.explain.perturbation import scores_of
from pyramidai_mpi.explain.replacement import replacement
from pyramidai_mpi.explain.rise import Rise
from tests.explain.conftest import KEY


def paper_masks(side, n, grid, keep, key):
    """Section 3.2: small binary masks, enlarged by bilinear interpolation, cut at a random place; float64 (n, S, S)."""
    cell = int(np.ceil(side / grid))
    large = (grid + 1) * cell
    masks = []
    for u in uniforms("rise", key, range(n), grid * grid + 2):
        small = (u[:-2] < keep).astype(np.float64).reshape(grid, grid)
        y, x = int(u[-2] * cell), int(u[-1] * cell)
        enlarged = resize(small, (large, large), order=1, mode="edge", anti_aliasing=False)
        masks.append(enlarged[y : y + side, x : x + side])
    return np.array(masks)


@pytest.mark.parametrize(("side", "grid", "keep"), [(63, 7, 0.5), (64, 5, 0.3)])
def test_masks_are_those_of_the_paper(side, grid, keep):
    found = Rise(side, 50, grid, keep).masks(range(50), KEY)
    assert found.dtype == np.float32
    assert np.allclose(found, paper_masks(side, 50, grid, keep, KEY), atol=1e-6)


def test_pictures_are_the_tile_under_a_mask_and_its_replacement_elsewhere(tile):
    filled = replacement(tile, Fill.GLASS).astype(np.float64)
    masks = paper_masks(63, 9, 7, 0.5, KEY)[..., None]
    found = Rise(63, fill=Fill.GLASS).perturbed(tile, range(9), KEY)
    assert abs(found - (masks * tile + (1 - masks) * filled)).max() < 0.5001


def test_the_map_is_the_papers_sum(tile):
    """Equation 6: the mean of score times mask over the chance of a place to be seen."""
    rise = Rise(63, 80, centred=False)
    scores = np.random.default_rng(0).random(80).astype(np.float32)
    masks = paper_masks(63, 80, 7, 0.5, KEY)
    saliency = (scores[:, None, None].astype(np.float64) * masks).sum(axis=0) / (0.5 * 80)
    found = rise.map_of(tile, scores, KEY)
    assert found.shape == rise.map_shape == (8, 8)
    assert np.allclose(found, cell_means(saliency, (8, 8)), atol=1e-6)
    assert np.allclose(rise.map_of(tile, scores[:30], KEY), cell_means(
        (scores[:30, None, None] * masks[:30]).sum(axis=0) / 15, (8, 8)), atol=1e-6)  # fmt: skip


def test_centred_the_map_lacks_what_chance_has_shown_more_often(tile):
    scores = np.random.default_rng(0).random(80).astype(np.float32)
    mean = scores.mean(dtype=np.float64)
    shown = paper_masks(63, 80, 7, 0.5, KEY).mean(axis=0) / 0.5
    papers = Rise(63, 80, centred=False).map_of(tile, scores, KEY)
    found = Rise(63, 80).map_of(tile, scores, KEY)
    assert np.allclose(found, papers - mean * cell_means(shown, (8, 8)), atol=1e-6)
    # of a network that is as sure whatever it sees, the map says nothing
    flat = np.full(80, 0.75, np.float32)
    assert (Rise(63, 80).map_of(tile, flat, KEY) == 0).all()
    assert np.ptp(Rise(63, 80, centred=False).map_of(tile, flat, KEY)) > 0.05


@pytest.mark.parametrize("centred", [True, False])
def test_on_a_linear_score_the_map_is_what_is_expected(tile, centred):
    """Of a score that is the mask's mean over a patch P, the map at x is E[mask(x) mean_P(mask)] / keep: largest in the
    patch, and the mean of the patch far away, where masks know nothing of each other. From 6000 other masks, and within
    5 standard errors."""
    side, n = 63, 2000
    rise = Rise(side, n, centred=centred)
    patch = np.s_[:, 9:27, 9:36]
    scores = rise.masks(range(n), KEY)[patch].mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    found = rise.map_of(tile, scores, KEY)
    others = np.concatenate([Rise(side).masks(range(k, k + 500), (99,)) for k in range(0, 6000, 500)])
    means = cell_means(others, rise.map_shape)
    products = others[patch].mean(axis=(1, 2), dtype=np.float64)[:, None, None] * means / 0.5
    error = products.std(axis=0) * (1 / n + 1 / len(others)) ** 0.5
    expected = products.mean(axis=0)
    if centred:
        expected = expected - scores.mean(dtype=np.float64)
    assert (abs(found - expected) < 5 * error).all()
    top = np.unravel_index(found.argmax(), found.shape)
    assert 9 <= (top[0] + 0.5) * 63 / 8 < 27
    assert 9 <= (top[1] + 0.5) * 63 / 8 < 36
    assert found[7, 7] == pytest.approx(0.0 if centred else scores.mean(), abs=5 * error[7, 7])


def test_a_block_is_a_piece_of_the_whole(tile):
    rise = Rise(63)
    whole = rise.perturbed(tile, range(130), KEY)
    assert (rise.perturbed(tile, range(64, 128), KEY) == whole[64:128]).all()
    assert (rise.perturbed(tile, range(129, 130), KEY) == whole[129:]).all()
    assert not (rise.perturbed(tile, range(64, 128), (*KEY[:-1], 1)) == whole[64:128]).all(axis=(1, 2, 3)).any()


def test_the_repeatability_is_the_correlation_with_another_seed(tile, linear):
    """What split halves of 128 masks foretell, beside what maps of 128 others correlate with it."""
    rise = Rise(63, 128)
    scores = [scores_of(rise, tile, linear, (seed, *KEY[1:])) for seed in range(8)]
    keys = [(seed, *KEY[1:]) for seed in range(8)]
    foretold = np.mean([rise.repeatability(tile, s, key) for s, key in zip(scores, keys, strict=True)])
    maps = [rise.map_of(tile, s, key).ravel() for s, key in zip(scores, keys, strict=True)]
    seen = np.corrcoef(maps)[np.triu_indices(8, 1)].mean()
    assert 0.2 < seen < 0.98
    assert foretold == pytest.approx(seen, abs=0.1)


def test_more_masks_are_more_repeatable_and_too_few_say_nothing(tile, linear):
    rise = Rise(63, 1500)
    scores = scores_of(rise, tile, linear, KEY)
    assert rise.repeatability(tile, scores[:200], KEY) < rise.repeatability(tile, scores, KEY) < 1
    assert np.isnan(rise.repeatability(tile, scores[:3], KEY))
