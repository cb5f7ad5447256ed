"""The band of the fewest windows that keeps the map, the promise for new slides, and what both stand on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import measure

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.pyramid.dense_map import DenseMap
from pyramidai_mpi.pyramid.grid import stride_margin
from pyramidai_mpi.pyramid.refined_map import refine
from pyramidai_mpi.pyramid.refining import Band
from pyramidai_mpi.pyramid.run_levels import stepped_levels
from pyramidai_mpi.tuning.band import (
    EVERYTHING,
    bands_around,
    choose_band,
    guarantee_band,
    keeps,
    path_through,
    search_bands,
)
from pyramidai_mpi.tuning.band_play import FullMap, Trial, play, try_band
from pyramidai_mpi.tuning.guarantee import GuaranteeRequest

STRIDES = (16, 32, 64)
WINDOW = 224


def slide(seed: int, side: int = 48, mean: float = 0.0, threshold: float = 0.55) -> FullMap:
    """A slide full of tissue with blobs of tumour, and the blobs of truth that they more or less are."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(side, side)), 4)
    field = field / field.std() - 1 + mean
    noisy = field + 0.05 * rng.normal(size=field.shape)
    score = (1 / (1 + np.exp(-8 * noisy))).astype(np.float32)
    full = DenseMap(
        score, np.full((side, side), 16, np.uint16), 16, WINDOW, stride_margin(16, WINDOW), 1.0, 0.25, threshold
    )
    lesion = measure.label(field > 0.1, connectivity=2).astype(np.int32)
    mask = np.ones((side // 2, side // 2), bool)  # 32 px a pixel
    return FullMap(f"slide{seed}", full, np.zeros((side, side), bool), mask, 32.0, lesion)


SLIDES = [slide(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def trials():
    return search_bands(SLIDES, [STRIDES, (16, 64)])


def test_what_is_played_is_counted_against_the_full_map():
    one, band = SLIDES[0], Band(0.5, 0.6, 0.4)
    levels = stepped_levels(1, WINDOW, 2, STRIDES, under_pyramid=False)
    refined = refine(one.map, np.ones((12, 12), bool), levels, band)
    played = play(one, STRIDES, band)
    before, after = one.map.score >= 0.55, refined.map.score >= 0.55
    assert played.n_windows == sum(refined.windows)
    assert (played.n_full, played.n_cells) == (48 * 48,) * 2
    assert played.n_alike == (before == after).sum()
    assert played.iou == (before & after).sum() / (before | after).sum()
    assert played.lost == pytest.approx((before & ~after).sum() / before.sum())
    lesions = range(1, int(one.lesion.max()) + 1)
    found = [k for k in lesions if before[one.lesion == k].any()]
    assert played.n_found == len(found) > 0
    assert played.n_kept == sum(after[one.lesion == k].any() for k in found)


def test_all_bands_hold_the_threshold_and_the_last_refines_everything():
    for threshold in (0.55, 0.03, 0.99):
        bands = bands_around(threshold)
        assert all(band.low <= threshold <= band.high for band in bands)
        assert len(set(bands)) == len(bands)
        everything = try_band(SLIDES, STRIDES, bands[-1])
        assert (everything.iou, everything.n_lesions_lost) == (1.0, 0)
        assert everything.share >= 1  # and the rings


def test_no_band_that_keeps_the_objective_takes_fewer_windows_than_the_chosen_one(trials):
    objectives = (0.8, 0.95, 0.99, 1.0)
    chosen = {objective: choose_band(trials, objective) for objective in objectives}
    for strides in (STRIDES, (16, 64)):
        for band in bands_around(0.55):
            outcomes = [play(one, strides, band) for one in SLIDES]
            for objective in objectives:
                enough = np.mean([one.iou for one in outcomes]) >= objective - 1e-9
                all_lesions = all(one.n_kept == one.n_found for one in outcomes)
                if enough and all_lesions:
                    assert sum(one.n_windows for one in outcomes) >= chosen[objective].n_windows
    assert all(chosen[objective].iou >= objective - 1e-9 for objective in objectives)
    one = chosen[0.95]
    assert try_band(SLIDES, one.strides, one.band) == one


def test_a_band_that_loses_a_lesion_is_not_chosen_however_good_its_map(trials):
    assert any(trial.n_lesions_lost and trial.iou > 0.5 for trial in trials)
    assert choose_band(trials, 0.01).n_lesions_lost == 0
    assert not any(keeps(trial, 0.01) for trial in trials if trial.n_lesions_lost)


def test_slides_without_anything_positive_count_for_the_windows_alone():
    empty = slide(9, mean=-9.0)
    assert not empty.positive.any()
    alone, both = try_band([empty], STRIDES, Band()), try_band([SLIDES[0], empty], STRIDES, Band())
    assert np.isnan(alone.iou)
    assert keeps(alone, 1.0)
    assert both.iou == play(SLIDES[0], STRIDES, Band()).iou
    assert both.share == pytest.approx((play(SLIDES[0], STRIDES, Band()).share + alone.share) / 2)


def test_squares_have_tissue_where_any_pixel_of_the_mask_is_within_half_a_window_of_them():
    rng = np.random.default_rng(3)
    for pixel in (32.0, 28.0, 30.5):
        rows, cols = 41, 37
        height, width = (int(np.ceil(extent * 16 / pixel)) for extent in (rows, cols))
        mask = rng.random((height, width)) < 0.004
        full = DenseMap(
            np.zeros((rows, cols), np.float32), np.full((rows, cols), 16, np.uint16), 16, WINDOW, 112, 1.0, 0.25, 0.5
        )
        found = FullMap("one", full, np.zeros((rows, cols), bool), mask, pixel).squares(8)
        expected = np.zeros((-(-rows // 8), -(-cols // 8)), bool)
        for row, col in np.argwhere(mask):
            for r in range(expected.shape[0]):
                for c in range(expected.shape[1]):
                    down = min((row + 1) * pixel, (r + 1) * 128 + 112) - max(row * pixel, r * 128 - 112)
                    right = min((col + 1) * pixel, (c + 1) * 128 + 112) - max(col * pixel, c * 128 - 112)
                    expected[r, c] |= down > 1e-3 and right > 1e-3
        np.testing.assert_array_equal(found, expected)


def test_what_the_run_passed_over_is_background_not_unreadable():
    one = SLIDES[0]
    score = one.map.score.copy()
    background = np.zeros(score.shape, bool)
    background[:8], score[:8] = True, np.nan
    stride = np.where(background, 0, 16).astype(np.uint16)
    known = DenseMap(score, stride, 16, WINDOW, one.map.margin, 1.0, 0.25, 0.55)
    narrow = Band(0.5, 0.6, 2.0)
    passed_over = play(FullMap("one", known, background, one.mask, 32.0), STRIDES, narrow)
    unreadable = play(FullMap("one", known, background & False, one.mask, 32.0), STRIDES, narrow)
    assert passed_over.n_windows + 8 * 48 // 2 < unreadable.n_windows
    assert passed_over.n_cells == unreadable.n_cells == 40 * 48


def test_a_path_runs_from_narrow_to_everything_and_every_step_holds_the_one_before():
    for middle in (Band(0.2, 0.8, 0.3), Band(0.55, 0.55, 0.5), Band(0.0, 1.0, 1.0)):
        path = path_through(middle, 0.55)
        assert middle in [Band(*(round(x, 12) for x in (one.low, one.high, one.step))) for one in path]
        assert path[-1] == EVERYTHING
        for narrow, wide in pairwise(path[:-1]):
            assert wide.low <= narrow.low <= 0.55 <= narrow.high <= wide.high
            assert wide.step < narrow.step


def test_a_guarantee_is_the_first_step_at_which_the_corrected_loss_is_small_enough():
    slides = [slide(seed) for seed in range(10, 22)]
    found = guarantee_band(slides, [STRIDES], GuaranteeRequest(0.2, 0.6, seed=1))
    assert set(found.path_slides) | set(found.calibration_slides) == set(range(12))
    assert not set(found.path_slides) & set(found.calibration_slides)
    best = choose_band(search_bands([slides[k] for k in found.path_slides], [STRIDES]), 0.8)
    path = path_through(best.band, 0.55)
    losses = [[play(slides[k], STRIDES, band).lost for band in path] for k in found.calibration_slides]
    n = len(losses)
    # what counts at a step is the largest loss there or later, so that none ever rises
    corrected = [(sum(max(row[step:]) for row in losses) + 1) / (n + 1) for step in range(len(path))]
    assert found.step == next(step for step, loss in enumerate(corrected) if loss <= 0.2)
    assert found.band == path[found.step]
    assert found.bound == pytest.approx(corrected[found.step])
    assert found.bound <= 0.2


def test_too_few_slides_for_a_promise_are_refused():
    with pytest.raises(InputError, match="at least 9"):
        guarantee_band(SLIDES, [STRIDES], GuaranteeRequest(0.1))


def test_maps_with_several_thresholds_are_refused():
    with pytest.raises(InputError, match=r"thresholds: 0\.4, 0\.55"):
        search_bands([SLIDES[0], slide(1, threshold=0.4)], [STRIDES])


@pytest.mark.parametrize("strides", [(16,), (16, 24), (32, 16), (16, 448)])
def test_strides_that_no_run_has_are_refused(strides):
    with pytest.raises(UsageError, match="whole multiple"):
        play(SLIDES[0], strides, Band())


def test_strides_of_another_map_are_refused():
    with pytest.raises(UsageError, match="stride 16, but strides begin with 32"):
        play(SLIDES[0], (32, 64), Band())


def test_shares_are_means_over_slides():
    trial = try_band(SLIDES, STRIDES, Band(0.5, 0.6, 0.4))
    assert isinstance(trial, Trial)
    assert trial.share == pytest.approx(np.mean([one.n_windows / one.n_full for one in trial.slides]))
    assert trial.worst_share == max(one.n_windows / one.n_full for one in trial.slides)
    assert trial.worst_iou == min(one.n_both / one.n_either for one in trial.slides)
