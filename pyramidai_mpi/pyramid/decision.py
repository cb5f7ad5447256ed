"""The decision block: from class probabilities to zoom in or stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import Decision

if TYPE_CHECKING:
    import numpy.typing as npt


def decide(probability: npt.NDArray[np.float32], positive_class: int, threshold: float) -> npt.NDArray[np.uint8]:
    """Compare each tile's score with its level's threshold (Reinbigler et al. 2025, section 3.1).

    Parameters
    ----------
    probability
        float32 (N, C). A row with a value that is not finite is an unreadable tile, never one below the threshold.
    positive_class
        Column that holds the score.
    threshold
        The level's threshold. The comparison is ``float64(score) >= threshold``.

    Returns
    -------
    numpy.ndarray
        uint8 (N,), values of `Decision`.
    """
    score = probability[:, positive_class].astype(np.float64)
    decision = np.where(score >= threshold, np.uint8(Decision.ZOOM), np.uint8(Decision.STOP))
    decision[~np.isfinite(probability).all(axis=1)] = Decision.UNREADABLE
    return decision
