"""How well slides are put in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating]
    Bools = npt.NDArray[np.bool_]


def _share_won(score: Floats, should_win: Bools) -> float:
    """Of pairs (i, j) that can be judged, the share in which i scores higher; a tie is half. NaN without any pair."""
    higher = (score[:, None] > score).astype(float) + 0.5 * (score[:, None] == score)
    n_pairs = int(should_win.sum())
    return float(higher[should_win].sum() / n_pairs) if n_pairs else float("nan")


def auc(score: Floats, positive: Bools) -> float:
    """Area under the ROC curve of scores (N,); NaN where one class is missing."""
    return _share_won(score, positive[:, None] & ~positive)


def mean_auc(scores: Floats, classes: npt.NDArray[np.integer]) -> float:
    """Mean area of each class against all others, of scores (N, C); NaN where only one class is there.

    Classes that are not there, or are alone there, have none and do not count.
    """
    each = np.array([auc(scores[:, one], classes == one) for one in range(scores.shape[1])])
    return float(each[np.isfinite(each)].mean()) if np.isfinite(each).any() else float("nan")


def concordance(risk: Floats, time: Floats, event: Bools) -> float:
    """Harrell's concordance: of pairs in which one is known to have its event first, the share that risk gets right.

    Parameters
    ----------
    risk, time
        (N,): greater is worse; time to the event, or until which there was none.
    event
        bool (N,), whether it happened.
    """
    return _share_won(risk, event[:, None] & (time[:, None] < time))
