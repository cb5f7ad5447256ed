"""Lesion-level FROC against a direct transcription of the challenge's rules, on the full mask, lesion by lesion."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from scipy import ndimage
from skimage import measure

from pyramidai_mpi.evaluation.bootstrap import draw_slides
from pyramidai_mpi.evaluation.detections import Detections
from pyramidai_mpi.evaluation.froc import Findings, froc_curve, froc_score, judge
from pyramidai_mpi.evaluation.lesions import NO_LESIONS, find_lesions

MPP = 0.243


def transcribed_lesions(tumor: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Evaluation mask and labels of isolated tumour cells, the rules one by one on the whole mask."""
    distance = ndimage.distance_transform_edt(1 - tumor.astype(np.uint8))
    mask = measure.label(ndimage.binary_fill_holes(distance < 75 / (MPP * 2**5 * 2)), connectivity=2)
    isolated = [region.label for region in measure.regionprops(mask) if region.axis_major_length < 275 / (MPP * 2**5)]
    return mask, isolated


def transcribed_score(slides: list[tuple[np.ndarray | None, Detections]]) -> tuple[np.ndarray, np.ndarray]:
    """Curve of the challenge: lists of scores, a threshold at every distinct one but the lowest, then (0, 0)."""
    false_scores, true_scores, n_lesions = [], [], 0
    for tumor, detections in slides:
        found = list(zip(detections.score.astype(float), detections.l0_xy, strict=True))
        if tumor is None:
            false_scores += [score for score, _ in found]
            continue
        mask, isolated = transcribed_lesions(tumor)
        best = dict.fromkeys(range(1, mask.max() + 1), 0.0)
        for score, (x, y) in found:
            label = mask[int(y / 32), int(x / 32)]
            if label == 0:
                false_scores.append(score)
            elif label not in isolated:
                best[label] = max(best[label], score)
        true_scores += list(best.values())
        n_lesions += mask.max() - len(isolated)
    false_positives, sensitivity = [], []
    for threshold in sorted(set(false_scores + true_scores))[1:]:
        false_positives.append(sum(score >= threshold for score in false_scores) / len(slides))
        sensitivity.append(sum(score >= threshold for score in true_scores) / n_lesions)
    return np.array([*false_positives, 0]), np.array([*sensitivity, 0])


def disks(shape: tuple[int, int], rng: np.random.Generator, n: int) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, bool)
    for _ in range(n):
        centre, radius = rng.uniform(0, shape), rng.choice([1.0, 3.0, 9.0, 25.0])
        away = np.hypot(rows - centre[0], columns - centre[1])
        mask |= (away <= radius) & ((away >= radius - 3) | (radius < 20))  # large ones are rings: holes to fill
    return mask


def somewhere(shape: tuple[int, int], rng: np.random.Generator, n: int) -> Detections:
    return Detections(
        (rng.integers(1, 60, n) / 64).astype(np.float32), rng.uniform(0, (shape[1] * 32, shape[0] * 32), (n, 2))
    )


@pytest.fixture(scope="module")
def cohort() -> list[tuple[np.ndarray | None, Detections]]:
    rng = np.random.default_rng(11)
    slides: list[tuple[np.ndarray | None, Detections]] = []
    for number in range(9):
        shape = (int(rng.integers(150, 260)), int(rng.integers(150, 260)))
        tumor = None if number % 3 == 2 else disks(shape, rng, 7)
        slides.append((tumor, somewhere(shape, rng, int(rng.integers(3, 40)))))
    return slides


def judged(slides) -> list[Findings]:
    return [judge(d, NO_LESIONS if tumor is None else find_lesions(tumor, MPP)) for tumor, d in slides]


def test_lesions_are_those_of_the_rules_pixel_by_pixel(cohort):
    seen_isolated = seen_lesions = 0
    for tumor, _ in cohort:
        if tumor is None:
            continue
        mask, isolated = transcribed_lesions(tumor)
        ours = find_lesions(tumor, MPP)
        whole = np.zeros(mask.shape, int)
        top, left = ours.corner
        whole[top : top + ours.label.shape[0], left : left + ours.label.shape[1]] = ours.label
        np.testing.assert_array_equal(whole, mask)
        assert np.flatnonzero(ours.isolated).tolist() == isolated
        seen_isolated += ours.n_isolated
        seen_lesions += ours.n_to_find
    assert seen_isolated >= 5
    assert seen_lesions >= 5


def test_curve_and_score_are_those_of_the_rules(cohort):
    false_positives, sensitivity = transcribed_score(cohort)
    expected = np.interp([0.25, 0.5, 1, 2, 4, 8], false_positives[::-1], sensitivity[::-1])
    curve = froc_curve(judged(cohort))
    assert 0.05 < curve.score < 0.95
    np.testing.assert_allclose(curve.at_rates, expected, atol=1e-9)
    assert curve.score == pytest.approx(np.mean(expected), abs=1e-9)
    np.testing.assert_allclose(curve.false_positives[::-1], false_positives, atol=1e-9)
    np.testing.assert_allclose(curve.sensitivity[::-1], sensitivity, atol=1e-9)


def test_the_interval_is_that_of_drawing_the_slides_themselves(cohort):
    findings = judged(cohort)
    counts = draw_slides(len(findings), 40, seed=5)
    drawn = [froc_curve([findings[s] for s in np.repeat(np.arange(9), row)]).score for row in counts]
    score = froc_score(findings, counts)
    assert (score.low, score.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-12)


def test_annotations_less_than_75_um_apart_are_one_lesion():
    # a mask pixel is 7.776 µm, the reach 4.82 pixels, so 4 on either side: 8 free pixels are bridged, 9 are not
    for gap, n in ((8, 1), (9, 2)):
        tumor = np.zeros((60, 200), bool)
        tumor[10:50, 10:80] = tumor[10:50, 80 + gap : 150] = True
        assert find_lesions(tumor, MPP).n_to_find == n


def test_a_hit_on_isolated_tumour_cells_is_neither_found_nor_false():
    tumor = np.zeros((100, 100), bool)
    tumor[20:22, 20:22] = True
    findings = judge(
        Detections(np.array([0.9], np.float32), np.array([[21 * 32.0, 21 * 32.0]])), find_lesions(tumor, MPP)
    )
    assert (len(findings.lesion_score), len(findings.false_score)) == (0, 0)
    assert np.isnan(froc_curve([findings]).score)


def test_the_major_axis_of_a_long_lesion_is_what_makes_it_a_lesion():
    # after joining, a line of n pixels is n + 8 long; the ellipse of a bar is 1.155 times as long as the bar
    for length, isolated in ((10, True), (60, False)):
        tumor = np.zeros((100, 100), bool)
        tumor[50, 20 : 20 + length] = True
        assert bool(find_lesions(tumor, MPP).isolated[1]) is isolated


def test_where_every_lesion_is_hit_no_detection_is_lost():
    # the challenge's script would drop the only score there is
    assert froc_curve([Findings(np.array([0.5]), np.empty(0))]).score == 1.0


def test_a_slide_without_lesions_counts_all_detections_as_false():
    findings = judge(Detections(np.array([0.9, 0.8], np.float32), np.array([[5.0, 5.0], [9.0, 9.0]])), NO_LESIONS)
    assert findings.false_score.tolist() == pytest.approx([0.9, 0.8])


def flood(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Connected parts, corners included, by hand."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    parts = []
    while left:
        queue, part = deque([left.pop()]), set()
        while queue:
            r, c = queue.popleft()
            part.add((r, c))
            near = {(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            queue.extend(near)
        parts.append(part)
    return parts


def test_major_axes_are_those_of_second_moments():
    tumor = disks((150, 150), np.random.default_rng(4), 6)
    ours = find_lesions(tumor, MPP)
    axes = []
    for part in flood(ours.label > 0):
        points = np.array(sorted(part), float)
        moments = np.cov(points.T, bias=True)
        axes.append((min(part), 4 * np.sqrt(np.linalg.eigvalsh(moments)[-1])))
    expected = [axis < 275 / (MPP * 32) for _, axis in sorted(axes)]
    assert ours.isolated[1:].tolist() == expected
