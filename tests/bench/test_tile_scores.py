"""Drawn scores: as good as they are said to be, and as correlated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logit
from scipy.stats import norm

from bench.paper.slide_geometry import TILE_UM, LevelGeometry, SlideGeometry, TissueModel, build_geometry
from bench.paper.tile_scores import PAPER_ACCURACY, Noise, draw_tree, fit_to_accuracy

OWN_ONLY = Noise(slide=0, field=0)


def patch(tumor, side: int = 64, name: str = "patch") -> SlideGeometry:
    """A square full of tissue; `tumor(col, row, level)` gives each tile's share."""
    levels = []
    for n in range(3):
        cols = side // 2**n
        row, col = (axis.ravel() for axis in np.mgrid[:cols, :cols])
        parent = np.full(len(row), -1) if n == 2 else (row // 2) * (cols // 2) + col // 2
        share = np.broadcast_to(tumor(col, row, n), len(row)).astype(np.float32)
        levels.append(LevelGeometry(np.stack([col, row], axis=1).astype(np.uint32), parent, share))
    return SlideGeometry(name, tuple(levels))


def half(col, row, level):
    return col < 32 // 2**level


def latent(tree, model) -> list[np.ndarray]:
    return [
        logit(level.score.astype(np.float64)) / (2 * m) for level, m in zip(tree.levels, model.separation, strict=True)
    ]


def balanced_accuracy(trees, level: int) -> float:
    score = np.concatenate([tree.levels[level].score for tree in trees])
    positive = np.concatenate([tree.levels[level].positive for tree in trees])
    return float(((score[positive] >= 0.5).mean() + (score[~positive] < 0.5).mean()) / 2)


def test_by_class_the_separation_is_the_normal_quantile_of_the_accuracy() -> None:
    model = fit_to_accuracy([], full_at=None, noise=Noise())
    assert norm.cdf(model.separation) == pytest.approx(PAPER_ACCURACY, abs=1e-12)


def test_shares_spread_evenly_have_the_accuracy_of_the_integral() -> None:
    evenly = patch(lambda c, r, n: (np.arange(len(c)) + 0.5) / len(c))
    model = fit_to_accuracy([evenly], (0.8, 0.8, 0.8), full_at=1.0, noise=Noise())
    mean, _ = quad(lambda s: norm.cdf(model.separation[0] * abs(2 * s - 1)), 0, 1)
    assert mean == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize("full_at", [None, 1.0, 0.25], ids=["by class", "by share", "by a quarter"])
def test_drawn_scores_have_the_accuracies_of_table_2(full_at: float | None) -> None:
    outlines = {"positive": [[[60000, 60000], [75000, 61000], [69000, 76000]]]}
    slides = [build_geometry(f"s{k}", outlines, TissueModel(mean_tiles=9000)) for k in range(3)]
    model = fit_to_accuracy(slides, full_at=full_at, noise=OWN_ONLY)
    trees = [draw_tree(slide, model, seed) for slide in slides for seed in range(4)]
    for level, wanted in enumerate(PAPER_ACCURACY):
        n = min(sum((tree.levels[level].positive == kind).sum() for tree in trees) for kind in (True, False))
        assert balanced_accuracy(trees, level) == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / n))


def test_an_accuracy_that_no_separation_reaches_is_refused() -> None:
    with pytest.raises(ValueError, match="no separation"):
        fit_to_accuracy([patch(lambda c, r, n: np.where(c % 2, 0.5, 0.0))], full_at=1.0, noise=Noise())


def test_half_of_the_evidence_means_half_of_the_tumour() -> None:
    """Where the score says p, and both classes are equally frequent, a share p is tumour."""
    slides = [patch(half, name=str(k)) for k in range(30)]
    model = fit_to_accuracy(slides, full_at=None, noise=OWN_ONLY)
    levels = [draw_tree(slide, model).levels[0] for slide in slides]
    score = np.concatenate([level.score for level in levels])
    positive = np.concatenate([level.positive for level in levels])
    for low in (0.1, 0.3, 0.5, 0.7):
        there = (score >= low) & (score < low + 0.2)
        expected = score[there].mean()
        assert positive[there].mean() == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(there.sum()))


def test_the_noise_has_the_variances_and_the_length_that_it_is_told() -> None:
    noise = Noise(slide=0.2, field=0.5, length_um=6 * TILE_UM, shared=0.5)
    slides = [patch(lambda c, r, n: np.zeros(1), name=str(k)) for k in range(400)]
    model = fit_to_accuracy([], full_at=None, noise=noise)
    z = [latent(draw_tree(slide, model), model) for slide in slides]
    level0 = np.array([levels[0].reshape(64, 64) for levels in z]) + model.separation[0]
    assert level0.mean() == pytest.approx(0, abs=0.1)
    assert level0.var() == pytest.approx(1, abs=0.05)

    def at_distance(tiles: int) -> float:
        return float((level0[:, :, tiles:] * level0[:, :, :-tiles]).mean())

    assert at_distance(6) == pytest.approx(0.2 + 0.5 / np.e, abs=0.05)
    assert at_distance(32) == pytest.approx(0.2, abs=0.05)
    level1 = np.array([levels[1].reshape(32, 32) for levels in z]) + model.separation[1]
    assert (level0[:, 1::2, 1::2] * level1).mean() == pytest.approx(0.2 + 0.5 / 2, abs=0.05)


def test_seeded_means_deterministic() -> None:
    slide = patch(half)
    model = fit_to_accuracy([slide], full_at=None, noise=Noise())
    one, two, other = (draw_tree(slide, model, seed).levels[0].score for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
