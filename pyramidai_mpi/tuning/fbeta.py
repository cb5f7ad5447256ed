"""The threshold of the best F_beta (Reinbigler et al. 2025, section 3.2): beta weighs recall against precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

BETAS = tuple(range(1, 15))
"""As in the paper."""


def best_thresholds(
    score: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_], betas: Sequence[float] = BETAS
) -> tuple[float, ...]:
    """For each beta the score at which calling all tiles of at least that score positive has the highest F_beta.

    All distinct scores are tried, so the maximum is exact; of several equally good ones the lowest is taken, which
    prunes least.

    Parameters
    ----------
    score
        (N,); tiles without one (NaN) do not count.
    positive
        bool (N,), the truth.
    betas
        ``F = (1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP)``.

    Raises
    ------
    InputError
        When no tile is positive.
    """
    readable = ~np.isnan(score)
    score, positive = score[readable].astype(np.float64), positive[readable]
    wanted = int(positive.sum())
    if not wanted:
        raise InputError("no readable tile of this level is positive, so no F-score tells a good threshold")
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(positive[order])
    # a threshold admits all tiles of equal score
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    true_positives, called = hits[last], last + 1
    chosen = []
    for beta in betas:
        f = (1 + beta**2) * true_positives / (beta**2 * wanted + called)
        chosen.append(float(ranked[last[np.flatnonzero(f == f.max())[-1]]]))
    return tuple(chosen)
