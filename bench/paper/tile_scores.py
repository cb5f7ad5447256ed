"""Scores drawn for tiles that have no pixels, as good as the paper's networks are.

The latent score of a tile of level n is normal: ``z = m_n g(s) + noise``, with noise of mean 0 and variance 1, and
``score = 1 / (1 + exp(-2 m_n z))``, which is the probability of tumour given z when both classes are equally frequent.
`s` is the share of the tile's tissue that is tumour. A network that answers to how much tumour it sees has
``g(s) = 2 min(1, s / full_at) - 1``, which is 1 from a share `full_at` on; one that answers to the class has the sign
of the label. The paper says nothing of either. ``full_at = 1`` was taken before any retention was computed; others are
for comparison. The noise is the sum of

- one number a slide, the same at all levels: stain and scanner;
- a smooth field over the slide, of Gaussian correlation that falls to 1/e within a given length, a part of it the same
  at all levels: tissue that looks like tumour;
- a number of each tile alone.

`m_n` is fixed by the paper's Table 2 alone: with it the expected share of right calls at score 0.5 over balanced tiles
is the accuracy of level n. By class that is ``m = inverse normal(accuracy)``; else it is found by bisection over the
tumour shares of the cohort's tiles, with every positive tile weighing the same, and every negative one. Table 2 gives
no sensitivity and specificity of their own: they are equal by class, and else follow from the shares.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, ndtr

from bench.paper.slide_geometry import LEVELS, TILE_UM
from pyramidai_mpi.synth.noise import smooth_noise
from pyramidai_mpi.truth.labelled_tree import LabelledLevel, LabelledTree

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from bench.paper.slide_geometry import SlideGeometry

PAPER_ACCURACY = (0.948, 0.958, 0.917)
"""Table 2, level 0 first."""
POSITIVE_SHARE = 0.5


@dataclass(frozen=True)
class Noise:
    """What the unit of variance is made of; the rest is each tile's own.

    Attributes
    ----------
    slide, field
        Variance of the slide's number and of the smooth field.
    length_um
        Distance at which the field's correlation has fallen to 1/e.
    shared
        Part of the field's variance that all levels share.
    """

    slide: float = 0.1
    field: float = 0.4
    length_um: float = 500.0
    shared: float = 0.5

    @property
    def own(self) -> float:
        """Variance of each tile's own number."""
        return 1.0 - self.slide - self.field


@dataclass(frozen=True)
class ScoreModel:
    """How scores follow from tumour shares.

    Attributes
    ----------
    separation
        m of each level, level 0 first.
    noise
        See `Noise`.
    full_at
        Share of tumour from which the answer is full; None for an answer to the label.
    """

    separation: tuple[float, ...]
    noise: Noise
    full_at: float | None


def response_to(tumor: npt.NDArray[np.floating], full_at: float | None) -> npt.NDArray[np.float64]:
    """g(s), -1 for no tumour to 1."""
    if full_at is not None:
        return np.asarray(2.0 * np.minimum(tumor.astype(np.float64) / full_at, 1.0) - 1.0)
    return np.where(tumor >= POSITIVE_SHARE, 1.0, -1.0)


class ShareCounts:
    """How often each share of tumour occurs among a cohort's tiles of one level."""

    def __init__(self, shares: Sequence[npt.NDArray[np.float32]]) -> None:
        found = [np.unique(part, return_counts=True) for part in shares]
        self._shares = np.concatenate([values for values, _ in found])
        self._counts = np.concatenate([counts for _, counts in found]).astype(np.float64)

    @cached_property
    def _positive(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self._shares >= POSITIVE_SHARE)

    def accuracy(self, separation: float, full_at: float | None) -> float:
        """Expected share of right calls at score 0.5, positive and negative tiles weighing the same in all.

        NaN without tiles of either kind.
        """
        if self._positive.all() or not self._positive.any():
            return float("nan")
        right = ndtr(separation * response_to(self._shares, full_at) * np.where(self._positive, 1, -1))
        parts = [np.average(right[kind], weights=self._counts[kind]) for kind in (self._positive, ~self._positive)]
        return float(np.mean(parts))


def fit_to_accuracy(
    cohort: Sequence[SlideGeometry],
    accuracy: Sequence[float] = PAPER_ACCURACY,
    *,
    noise: Noise,
    full_at: float | None = 1.0,
) -> ScoreModel:
    """The model whose expected accuracies are the given ones; no score is drawn and no retention computed.

    Raises
    ------
    ValueError
        Tiles with about as much tumour as not are so many that no separation reaches an accuracy, or a level has no
        positive or no negative tile.
    """
    separations = []
    for n, wanted in enumerate(accuracy):
        if full_at is None:
            separations.append(NormalDist().inv_cdf(wanted))
            continue
        counts = ShareCounts([slide.levels[n].tumor for slide in cohort])
        low, high = 0.0, 64.0
        if not counts.accuracy(high, full_at) >= wanted:
            raise ValueError(f"level {n}: no separation gives an accuracy of {wanted}")
        while high - low > 1e-12:
            middle = (low + high) / 2
            low, high = (middle, high) if counts.accuracy(middle, full_at) < wanted else (low, middle)
        separations.append(high)
    return ScoreModel(tuple(separations), noise, full_at)


def draw_tree(geometry: SlideGeometry, model: ScoreModel, seed: int = 0) -> LabelledTree:
    """Draw the scores of one slide; the same for equal arguments."""
    noise = model.noise
    rng = np.random.default_rng([seed, 1, zlib.crc32(geometry.slide.encode())])
    whole = np.sqrt(noise.slide) * rng.standard_normal()
    common = _Field(rng, geometry, noise)
    levels = []
    for n in range(LEVELS):
        tiles = geometry.levels[n]
        field = np.sqrt(noise.shared) * common.at(n) + np.sqrt(1 - noise.shared) * _Field(rng, geometry, noise).at(n)
        own = np.sqrt(noise.own) * rng.standard_normal(len(tiles.tumor))
        z = model.separation[n] * response_to(tiles.tumor, model.full_at) + whole + np.sqrt(noise.field) * field + own
        score = expit(2 * model.separation[n] * z).astype(np.float32)
        levels.append(LabelledLevel(tiles.index, score, tiles.tumor >= POSITIVE_SHARE, tiles.parent))
    return LabelledTree(geometry.slide, tuple(levels))


class _Field:
    """A smooth field of mean 0 and variance 1 over a slide, sampled on its level-0 tiles."""

    def __init__(self, rng: np.random.Generator, geometry: SlideGeometry, noise: Noise) -> None:
        self._geometry = geometry
        index = geometry.levels[0].index
        self._first = index.min(axis=0) // 2 ** (LEVELS - 1) * 2 ** (LEVELS - 1)
        cols, rows = (index.max(axis=0) - self._first + 2 ** (LEVELS - 1)).tolist()
        # noise smoothed by a Gaussian of deviation w / 5 has the correlation exp(-(d / (2 w / 5))**2)
        self._values = smooth_noise(rng, (rows, cols), 2.5 * noise.length_um / TILE_UM)

    def at(self, level: int) -> npt.NDArray[np.float64]:
        """Value at the middle of each tile of a level, float64 (N,)."""
        side = 2**level
        col, row = (self._geometry.levels[level].index * side + side // 2 - self._first).T
        return self._values[row, col].astype(np.float64)
