"""The decision block: from class probabilities to zoom in or stop, and which tiles decisions lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


def passes(score: npt.NDArray[np.floating], threshold: float) -> npt.NDArray[np.bool_]:
    """Which scores (N,) are enough to zoom in, or at level 0 to call a tile positive, bool (N,).

    The comparison is ``float64(score) >= threshold``. A NaN passes no threshold.
    """
    return np.asarray(score.astype(np.float64, copy=False) >= threshold)


def decide(probability: npt.NDArray[np.float32], positive_class: int | None, threshold: float) -> npt.NDArray[np.uint8]:
    """Compare each tile's score with its level's threshold (Reinbigler et al. 2025, section 3.1).

    Parameters
    ----------
    probability
        float32 (N, C). A row with a value that is not finite is an unreadable tile, never one below the threshold.
    positive_class
        Column that holds the score; None of an encoder, without columns, whose tiles all stop.
    threshold
        The level's threshold, see `passes`.

    Returns
    -------
    numpy.ndarray
        uint8 (N,), values of `Decision`.
    """
    if positive_class is None:
        return np.full(len(probability), Decision.STOP, np.uint8)
    enough = passes(probability[:, positive_class], threshold)
    decision = np.where(enough, np.uint8(Decision.ZOOM), np.uint8(Decision.STOP))
    decision[~np.isfinite(probability).all(axis=1)] = Decision.UNREADABLE
    return decision


def looks_closer(decision: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Of which tiles above level 0 the children are analysed, bool (N,): what was zoomed into or is unreadable."""
    return np.asarray(decision != Decision.STOP)


def reached(
    decisions: Sequence[npt.NDArray[np.uint8]], parents: Sequence[npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.bool_], ...]:
    """Which tiles of an exhaustive run a pyramidal one of these decisions analyses.

    Parameters
    ----------
    decisions
        Of each level from 1 up, uint8 (N,).
    parents
        Of each level from 0 up, int64 (N,): row in the next coarser level, -1 where there is none.

    Returns
    -------
    tuple of numpy.ndarray
        For each level from 0 up, bool (N,): all of the coarsest, else those whose parent is reached and looks closer.
    """
    masks = [np.ones(len(parents[-1]), bool)]
    for decision, parent in zip(reversed(decisions), reversed(parents[:-1]), strict=True):
        masks.append((masks[-1] & looks_closer(decision))[parent])
    return tuple(reversed(masks))
