"""Maps of windows against ground truth: FROC counted again on plain lists, coarser strides, agreement, slide scores."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from skimage import measure
from sklearn.metrics import roc_auc_score

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.evaluation.dense import (
    coarser_maps,
    compare_maps,
    evaluate_dense_cohort,
    evaluate_map,
    evaluate_maps,
)
from pyramidai_mpi.evaluation.dense_tables import dense_csv, dense_json, dense_lines
from pyramidai_mpi.evaluation.lesions import NO_LESIONS, find_lesions
from pyramidai_mpi.evaluation.slide import DetectionRule
from pyramidai_mpi.pyramid.dense_map import DenseMap
from pyramidai_mpi.pyramid.grid import stride_margin

MPP, WINDOW, SIDE = 0.25, 224, 4096
RULE = DetectionRule(None, 100.0)


def tumour(seed: int) -> np.ndarray:
    """Mask of the annotations at 1/32: disks, of which the small ones are isolated cells."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: SIDE // 32, : SIDE // 32]
    mask = np.zeros(rows.shape, bool)
    for radius in (3.0, 20.0, 16.0):
        centre = rng.uniform(20, SIDE // 32 - 20, 2)
        mask |= np.hypot(rows - centre[0], cols - centre[1]) <= radius
    return mask


def uniform(seed: int, mask: np.ndarray | None, stride: int = 16) -> DenseMap:
    """Scores that rise in the tumour, with smooth noise, and a rim of glass without any."""
    rng = np.random.default_rng(seed)
    n = SIDE // stride
    base = np.zeros((n, n)) if mask is None else np.kron(mask, np.ones((32 // stride, 32 // stride))).astype(float)
    noise = ndimage.gaussian_filter(rng.standard_normal((n, n)), 5)
    score = 1 / (1 + np.exp(-(1.5 * ndimage.gaussian_filter(base, 4) - 2 + noise / noise.std())))
    score = score.astype(np.float32)
    score[:4] = np.nan
    known = np.where(np.isnan(score), 0, stride).astype(np.uint16)
    return DenseMap(score, known, stride, WINDOW, stride_margin(stride, WINDOW), 1.0, MPP, 0.5)


def counted(maps: list[DenseMap], masks: list[np.ndarray | None], radius: float) -> list[float]:
    """Sensitivities at the challenge's rates, by its rules, one by one."""
    false, best, n_lesions = [], [], 0
    for dense, mask in zip(maps, masks, strict=True):
        places = {}
        for row, col in np.argwhere(dense.score >= dense.threshold).tolist():
            x, y = (place * dense.cell - dense.margin + WINDOW / 2 for place in (col, row))
            places[(x, y)] = float(dense.score[row, col])
        kept: list[tuple[float, float]] = []
        for x, y in sorted(places, key=lambda at: (-places[at], at[1], at[0])):
            if not kept or (np.hypot(*(np.array(kept) - (x, y)).T) * MPP > radius).all():
                kept.append((x, y))
        if mask is None:
            false += [places[at] for at in kept]
            continue
        near = ndimage.distance_transform_edt(~mask) < 75 / (MPP * 32 * 2)
        label = measure.label(ndimage.binary_fill_holes(near), connectivity=2)
        isolated = {r.label for r in measure.regionprops(label) if r.axis_major_length < 275 / (MPP * 32)}
        found = dict.fromkeys(set(range(1, label.max() + 1)) - isolated, 0.0)
        for x, y in kept:
            hit = int(label[int(y / 32), int(x / 32)]) if max(x, y) < SIDE else 0
            if hit == 0:
                false.append(places[x, y])
            elif hit in found:
                found[hit] = max(found[hit], places[x, y])
        best += list(found.values())
        n_lesions += len(found)
    curve = [(0.0, 0.0)]
    for threshold in sorted({*false, *best} - {0.0}, reverse=True):
        hits = sum(score >= threshold for score in best)
        curve.append((sum(score >= threshold for score in false) / len(maps), hits / n_lesions))
    x, y = zip(*curve, strict=True)
    return np.interp([0.25, 0.5, 1, 2, 4, 8], x, y).tolist()


@pytest.fixture(scope="module")
def masks() -> list[np.ndarray | None]:
    return [tumour(1), None, tumour(2), None, tumour(3)]


@pytest.fixture(scope="module")
def fine(masks) -> list[DenseMap]:
    return [uniform(seed, mask) for seed, mask in enumerate(masks)]


@pytest.fixture(scope="module")
def cohort(masks, fine):
    slides = [
        evaluate_maps(
            f"{k}.tif",
            mask is not None,
            NO_LESIONS if mask is None else find_lesions(mask, MPP),
            coarser_maps(dense, (16, 64, 128, 224)),
            RULE,
            dense,
        )
        for k, (mask, dense) in enumerate(zip(masks, fine, strict=True))
    ]
    return evaluate_dense_cohort(slides, RULE, n_resamples=40, seed=1)


def test_froc_at_every_stride_is_that_counted_on_plain_lists(cohort, masks, fine):
    assert [one.name for one in cohort.maps] == ["stride 16", "stride 64", "stride 128", "stride 224"]
    for times, one in zip((1, 4, 8, 14), cohort.maps, strict=True):
        expected = counted([dense.subsample(times) for dense in fine], masks, RULE.radius_um)
        np.testing.assert_allclose(one.froc.curve.at_rates, expected, atol=1e-12)
        assert 0.2 < one.froc.score.value < 1
        assert one.froc.score.low <= one.froc.score.value <= one.froc.score.high
    assert sum(slide.n_isolated for slide in cohort.slides) >= 1


def test_windows_places_and_slide_scores_are_counted(cohort, masks, fine):
    for times, one in zip((1, 4, 8, 14), cohort.maps, strict=True):
        scores = [dense.subsample(times).score for dense in fine]
        assert one.n_windows == sum(int((~np.isnan(score)).sum()) for score in scores)
        highest = [float(np.nanmax(score)) for score in scores]
        assert one.slide_auc.value == pytest.approx(roc_auc_score([mask is not None for mask in masks], highest))


def test_a_map_agrees_with_itself_and_with_coarser_ones_less(cohort, fine):
    first = cohort.maps[0].agreement
    assert (first.share, first.iou) == (1.0, 1.0)
    assert all(0.2 < one.agreement.iou < one.agreement.share < 1 for one in cohort.maps[1:])
    # the third map, cell by cell
    coarse, n_cells, n_same, both, either = fine[0].subsample(8), 0, 0, 0, 0
    for row, col in np.argwhere(~np.isnan(fine[0].score)).tolist():
        theirs, ours = fine[0].score[row, col] >= 0.5, coarse.score[row // 8, col // 8]
        n_cells, n_same = n_cells + 1, n_same + int((ours >= 0.5) == theirs)  # NaN is not called positive
        both, either = both + bool((ours >= 0.5) & theirs), either + bool((ours >= 0.5) | theirs)
    found = compare_maps(coarse, fine[0])
    assert (found.n_cells, found.n_same, found.n_both, found.n_either) == (n_cells, n_same, both, either)
    assert found.share == n_same / n_cells
    with pytest.raises(ValueError, match="do not nest"):
        compare_maps(fine[0], coarse)


def test_a_map_looked_at_closely_where_it_matters_finds_what_the_fine_one_does(masks, fine):
    """Strides 128 down to 16: in a square of 128 px with any positive cell, or beside one, all cells are looked at."""
    lesions = [NO_LESIONS if mask is None else find_lesions(mask, MPP) for mask in masks]
    for dense, found in zip(fine, lesions, strict=True):
        n = len(dense.score) // 8
        squares = np.nan_to_num(dense.score).reshape(n, 8, n, 8).max(axis=(1, 3)) >= 0.5
        near = np.kron(ndimage.binary_dilation(squares, np.ones((3, 3))), np.ones((8, 8))).astype(bool)
        coarse = dense.subsample(8)
        wide = coarse.score.repeat(8, 0).repeat(8, 1)
        known = ~np.isnan(np.where(near, dense.score, wide))
        mixed = replace(
            dense,
            score=np.where(near, dense.score, wide),
            stride=np.where(known, np.where(near, 16, 128), 0).astype(np.uint16),
        )
        whole, part = (evaluate_map("", one, found, RULE, dense) for one in (dense, mixed))
        np.testing.assert_array_equal(whole.pointing.findings.lesion_score, part.pointing.findings.lesion_score)
        np.testing.assert_array_equal(whole.pointing.findings.false_score, part.pointing.findings.false_score)
        assert part.n_windows < whole.n_windows
        assert part.agreement.iou == 1.0
        with pytest.raises(UsageError, match="holds none of one stride"):
            coarser_maps(mixed)


def test_strides_that_do_not_nest_are_refused_and_without_any_they_double(fine):
    with pytest.raises(UsageError, match="stride 24"):
        coarser_maps(fine[0], (24,))
    assert list(coarser_maps(fine[0])) == [f"stride {n}" for n in (16, 32, 64, 128, 224)]
    assert list(coarser_maps(replace(fine[0], cell=50, stride=(fine[0].stride > 0) * np.uint16(50)))) == [
        f"stride {n}" for n in (50, 100, 200)
    ]


def test_a_map_without_any_score_points_nowhere():
    empty = DenseMap(np.full((9, 9), np.nan, np.float32), np.zeros((9, 9), np.uint16), 16, WINDOW, 112, 1.0, MPP, 0.5)
    found = evaluate_map("empty", empty, NO_LESIONS, RULE, empty)
    assert (found.n_windows, found.pointing.n_detections, found.highest, found.strides) == (0, 0, 0.0, ())
    assert np.isnan(found.agreement.share)
    assert np.isnan(found.agreement.iou)


def test_tables_json_and_csv_say_the_same(cohort):
    text = "\n".join(dense_lines(cohort))
    assert "5 slides, 3 with tumour" in text
    assert "places: highest windows within 100 µm, of scores from the map's threshold on" in text
    record = json.loads(dense_json(cohort))
    rows = list(csv.DictReader(io.StringIO(dense_csv(cohort))))
    assert len(rows) == 5 * 4
    for one, figures in zip(record["maps"], cohort.maps, strict=True):
        assert one["froc"]["score"]["value"] == figures.froc.score.value
        assert str(figures.froc.score) in text
        assert one["windows"] == sum(int(row["windows"]) for row in rows if row["map"] == one["name"])
        assert one["agreement"]["iou"] == figures.agreement.iou
        assert f"{figures.agreement.iou:.4f}" in text
    assert [row["slide"] for row in rows[::4]] == [one["slide"] for one in record["slides"]]


def test_of_slides_without_lesions_it_is_said():
    slide = evaluate_maps("normal.tif", False, NO_LESIONS, {"stride 16": uniform(1, None)}, RULE)
    lines = list(dense_lines(evaluate_dense_cohort([slide], RULE, n_resamples=10)))
    assert "no lesion to find on any slide: no FROC" in lines
