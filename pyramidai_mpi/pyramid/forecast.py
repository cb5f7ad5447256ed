"""How much of a run is left, from what is done so far.

Nobody knows beforehand which tiles will be zoomed into. What is known at any moment: of each level, how many tiles were
done, how many followed from them, how many wait, and what they took. A tile that waits is expected to bring as many
tiles of the next level as those of its level have brought so far, and so on down to level 0. Since work goes down each
root's tiles before the next root's, and roots are taken evenly over the slide (`dealing.evenly_spread`), what is done
is a sample of the whole slide at any moment.

Where every tile's children are all done, or only level 0 is, nothing is estimated: tiles are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LEVEL_TALLY_DTYPE = np.dtype(
    [
        ("exists", "<i8"),
        ("begun", "<i8"),
        ("kept", "<i8"),
        ("done", "<i8"),
        ("followed", "<i8"),
        ("dropped", "<i8"),
        ("busy_us", "<i8"),
    ]
)
"""Tiles of one level of all slides that were opened: those that the run may come to, at most; those that it began with;
those that earlier starts have done; those done since; tiles of the next finer level that followed from these; those
that nobody will do, as their slide has failed. And the microseconds that those done took."""

SLIDES_TALLY_DTYPE = np.dtype([("to_open", "<i8"), ("opened", "<i8"), ("busy_us", "<i8")])
"""Slides that are opened as part of the work; those opened so far; the microseconds that this took."""

_GUESSED_TILES = 2.0
"""So many tiles a level are taken as seen before the first is; each was zoomed into as often as `_GUESSED_SHARE`."""
_GUESSED_SHARE = 0.25


@dataclass(frozen=True)
class Forecast:
    """How far a run is, and what is left.

    Attributes
    ----------
    done
        Tiles done, also by earlier starts.
    total
        Tiles done at the end; None as long as nothing tells.
    is_exact
        Whether `total` is counted, not estimated.
    share
        Of the work, by time that one rank would take for it, 0 to 1; None as long as nothing tells.
    left_over_spent
        Time that is left over the time since this start, if ranks go on as they did; None likewise.
    """

    done: int
    total: int | None = None
    is_exact: bool = False
    share: float | None = None
    left_over_spent: float | None = None


def forecast(levels: npt.NDArray[np.void], slides: npt.NDArray[np.void], *, all_follow: bool) -> Forecast:
    """Estimate what is left.

    Parameters
    ----------
    levels
        `LEVEL_TALLY_DTYPE` records (L,), level 0 first.
    slides
        A `SLIDES_TALLY_DTYPE` record.
    all_follow
        Whether the run does all tiles that it may come to.
    """
    done = levels["kept"] + levels["done"]
    n_done = int(done.sum())
    unopened = max(0, int(slides["to_open"] - slides["opened"]))
    if not levels["begun"].any() and not n_done and unopened:
        return Forecast(n_done)
    is_counted = all_follow and not levels["dropped"].any()
    left = np.maximum(levels["exists"] - done, 0).astype(float) if is_counted else _expected(levels, done)
    n_left = left.sum()
    opening_s = 0.0
    if unopened:
        if not slides["opened"]:
            return Forecast(n_done)
        # those that are not opened yet are as large as the others are on average
        left = left + (done + left) * (unopened / slides["opened"])
        n_left = left.sum()
        opening_s = unopened * slides["busy_us"] / slides["opened"] / 1e6
    total = n_done + round(float(n_left))
    is_exact = (is_counted or not n_left) and not unopened
    spent_s = (levels["busy_us"].sum() + slides["busy_us"]) / 1e6
    if not n_left and not unopened:
        return Forecast(n_done, total, is_exact, 1.0, 0.0)
    if not levels["busy_us"].any():
        return Forecast(n_done, total, is_exact)
    cost_s = _cost_s(levels)
    left_s = float(left @ cost_s) + opening_s
    kept_s = float(levels["kept"] @ cost_s)
    share = (kept_s + spent_s) / (kept_s + spent_s + left_s)
    return Forecast(n_done, total, is_exact, float(share), float(left_s / spent_s))


def _expected(levels: npt.NDArray[np.void], done: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Tiles of each level that are expected to be done yet, float64 (L,)."""
    coming = np.zeros(len(levels))
    from_above, arrived = 0.0, 0
    for level in range(len(levels) - 1, -1, -1):
        of_level = levels[level]
        # a wave that counts all ranks is no instant: a tile may be done where it was not seen to be there
        open_tiles = max(0, arrived + int(of_level["begun"] - of_level["done"] - of_level["dropped"]))
        coming[level] = min(open_tiles + from_above, max(open_tiles, float(of_level["exists"] - done[level])))
        if level:
            next_finer = levels[level - 1]
            # of tiles that earlier starts have done, those that wait or are done followed
            followed = int(of_level["followed"] + next_finer["kept"] + next_finer["begun"])
            most = next_finer["exists"] / of_level["exists"] if of_level["exists"] else 0.0
            guessed = _GUESSED_TILES * _GUESSED_SHARE * most
            from_above = coming[level] * (followed + guessed) / (done[level] + _GUESSED_TILES)
            arrived = int(of_level["followed"])
    return coming


def _cost_s(levels: npt.NDArray[np.void]) -> npt.NDArray[np.float64]:
    """Seconds a tile takes by level, float64 (L,); of a level that was not seen yet, as much as of the others."""
    seen = levels["done"] > 0
    mean = levels["busy_us"].sum() / max(1, levels["done"].sum())
    cost_us = np.where(seen, levels["busy_us"] / np.maximum(levels["done"], 1), mean)
    return np.asarray(cost_us / 1e6)
