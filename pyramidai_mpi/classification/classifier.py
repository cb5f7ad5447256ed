"""Fitting a slide classifier, saying how good it is on slides it has not seen, and asking it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.classification.features import features_of
from pyramidai_mpi.classification.forest import N_TREES, grow_forest
from pyramidai_mpi.evaluation.bootstrap import draw_slides
from pyramidai_mpi.evaluation.roc import auc_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.classification.features import FeatureKind
    from pyramidai_mpi.classification.forest import Forest
    from pyramidai_mpi.classification.score_map import ScoreMap
    from pyramidai_mpi.evaluation.bootstrap import Estimate

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]

BINS = 20
CALLED_TUMOR = 0.5
"""A slide is called a tumour slide from this probability on."""


@dataclass(frozen=True)
class SlideClassifier:
    """A fitted classifier.

    Attributes
    ----------
    kind, bins
        What a slide is described by; bins of the histogram.
    forest
        Its trees.
    level_sha256
        Hashes of the networks whose scores it was fitted on, level 0 first.
    runs
        Which tiles the scores were of (see `ScoreMap.run`), each kind once.
    n_tumor, n_normal
        Slides it was fitted on.
    """

    kind: FeatureKind
    bins: int
    forest: Forest
    level_sha256: tuple[str, ...]
    runs: tuple[str, ...]
    n_tumor: int
    n_normal: int

    def predict(self, maps: Sequence[ScoreMap]) -> Floats:
        """Probability that each slide is a tumour slide, float64 (M,).

        Raises
        ------
        InputError
            When a result was made by other networks.
        """
        for one in maps:
            if one.level_sha256 != self.level_sha256:
                raise InputError(
                    f"{one.slide}: its tiles were scored by other networks than those that the classifier was fitted "
                    "on; analyse it with the same model, or fit a classifier on results of this one"
                )
        return self.forest.predict(describe(maps, self.kind, self.bins))


def describe(maps: Sequence[ScoreMap], kind: FeatureKind, bins: int) -> Floats:
    """Features of slides, float64 (M, F)."""
    return np.array([features_of(one.score, kind, bins, one.cell) for one in maps])


def fit_classifier(
    maps: Sequence[ScoreMap],
    tumor: Bools,
    kind: FeatureKind,
    *,
    bins: int = BINS,
    seed: int = 0,
    n_trees: int = N_TREES,
) -> SlideClassifier:
    """Fit a classifier on all slides given.

    Parameters
    ----------
    maps
        Results, one a slide, of one model.
    tumor
        bool (M,), which are tumour slides.
    kind, bins
        What to describe them by.
    seed
        Seed of growing the trees.
    n_trees
        How many.

    Raises
    ------
    UsageError
        When there are fewer than two slides of a kind, or a slide is there twice.
    InputError
        When the results are of several models.
    """
    n_tumor, n_normal = int(tumor.sum()), int((~tumor).sum())
    if min(n_tumor, n_normal) < 2:
        raise UsageError(f"{n_tumor} tumour and {n_normal} normal slides; at least 2 of each are needed")
    first: dict[str, ScoreMap] = {}
    for one in maps:
        if one.quickhash in first:
            raise UsageError(f"{one.slide} is the same slide as {first[one.quickhash].slide}; give one result a slide")
        first[one.quickhash] = one
        if one.level_sha256 != maps[0].level_sha256:
            raise InputError(f"{one.slide} and {maps[0].slide} were analysed by different models; use one")
    return SlideClassifier(
        kind,
        bins,
        grow_forest(describe(maps, kind, bins), tumor, kind, seed, n_trees),
        maps[0].level_sha256,
        tuple(sorted({one.run for one in maps})),
        n_tumor,
        n_normal,
    )


def cross_validate(
    maps: Sequence[ScoreMap],
    tumor: Bools,
    kind: FeatureKind,
    *,
    bins: int = BINS,
    seed: int = 0,
    folds: int = 5,
    n_trees: int = N_TREES,
) -> Floats:
    """Probability of each slide by a classifier fitted without it and its fold, float64 (M,).

    Parameters
    ----------
    folds
        Parts of equal mix that the slides are dealt into; fewer when there are fewer slides of a kind.
    """
    from sklearn.model_selection import StratifiedKFold

    features = describe(maps, kind, bins)
    parts = StratifiedKFold(min(folds, int(tumor.sum()), int((~tumor).sum())), shuffle=True, random_state=seed)
    probability = np.empty(len(tumor))
    for fit, held_out in parts.split(features, tumor):
        probability[held_out] = grow_forest(features[fit], tumor[fit], kind, seed, n_trees).predict(features[held_out])
    return probability


@dataclass(frozen=True)
class SlideFigures:
    """How well slides were told apart.

    Attributes
    ----------
    auc
        Area under the ROC curve; its 95 % interval by drawing slides with replacement.
    n_tumor, found
        Tumour slides, and how many of them were called so.
    n_normal, false_positives
        Normal slides, and how many of them were called tumour slides.
    """

    auc: Estimate
    n_tumor: int
    found: int
    n_normal: int
    false_positives: int

    @property
    def accuracy(self) -> float:
        """Share of the slides called right."""
        return (self.found + self.n_normal - self.false_positives) / (self.n_tumor + self.n_normal)

    def __str__(self) -> str:
        return (
            f"AUC {self.auc}; {self.found} of {self.n_tumor} tumour slides found, "
            f"{self.false_positives} of {self.n_normal} normal slides called tumour; accuracy {self.accuracy:.3g}"
        )


def judge_slides(probability: Floats, tumor: Bools, *, n_resamples: int = 2000, seed: int = 0) -> SlideFigures:
    """Compare probabilities (M,) with the truth, bool (M,)."""
    table = auc_table(
        [probability[i : i + 1] for i in range(len(tumor))], [tumor[i : i + 1] for i in range(len(tumor))]
    )
    called = probability >= CALLED_TUMOR
    return SlideFigures(
        table.pooled(draw_slides(len(tumor), n_resamples, seed)),
        n_tumor=int(tumor.sum()),
        found=int((called & tumor).sum()),
        n_normal=int((~tumor).sum()),
        false_positives=int((called & ~tumor).sum()),
    )
