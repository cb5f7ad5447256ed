"""Whether a map says what the network looks at: deletion and insertion curves, beside those of a random map.

Petsiuk, Das, Saenko, "RISE: randomized input sampling for explanation of black-box models", BMVC 2018, section 4.1:
the places that a map calls most important are taken away first, or put back first, and the score is followed. Of a
faithful map it falls fast, and rises fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.explain.cells import edges, resampled
from pyramidai_mpi.explain.chance import uniforms
from pyramidai_mpi.explain.methods import Fill
from pyramidai_mpi.explain.replacement import replacement

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.explain.chance import Key

    Floats = npt.NDArray[np.float32]

CELLS = 28
"""Most cells on a side that are taken away by: 8 px of 224. Single pixels would make a noise that no network has seen,
which lowers scores wherever they lie."""

_AT_ONCE = 16
"""Pictures that are made at once: 2.4 MB at 224."""


@dataclass(frozen=True)
class Curves:
    """Scores by the share of the tile that was taken away, or put back: 0, 1/steps ... 1; float32 (steps + 1,) each.

    Attributes
    ----------
    deletion
        From the tile to its replacement, most important cells first.
    insertion
        From the replacement to the tile, most important cells first.
    """

    deletion: Floats
    insertion: Floats


def curves(
    pixels: RgbArray,
    map_: npt.NDArray[np.floating],
    score_of: Callable[[RgbArray], Floats],
    steps: int = 16,
    fill: Fill = Fill.BLUR,
) -> Curves:
    """Deletion and insertion curves of a map.

    Maps are brought to the same cells (`CELLS` on a side, less on smaller tiles) before they are ranked, those of a
    random map of the same size too. Cells of the same value come in an order that is random and always the same, since
    rows from the top down would mean something.

    Parameters
    ----------
    pixels
        uint8 (S, S, 3).
    map_
        (h, w), more where more speaks for the class, h and w up to S.
    score_of
        The class's score of tiles, float32 (n,) of uint8 (n, S, S, 3).
    steps
        In how many steps.
    fill
        What stands where cells are taken away.
    """
    if not np.isfinite(map_).all():
        unknown = np.full(steps + 1, np.nan, np.float32)
        return Curves(unknown, unknown)
    side = pixels.shape[0]
    n = min(CELLS, side)
    bounds = edges(side, n)
    at = np.repeat(np.arange(n), np.diff(bounds))
    rank = _ranks(resampled(map_, (n, n)).ravel()).reshape(n, n)[np.ix_(at, at)]
    gone = [round(n * n * step / steps) for step in range(steps + 1)]
    filled = replacement(pixels, fill)

    def curve(before: RgbArray, after: RgbArray) -> Floats:
        scores = [
            score_of(np.stack([np.where((rank < m)[..., None], after, before) for m in gone[k : k + _AT_ONCE]]))
            for k in range(0, steps + 1, _AT_ONCE)
        ]
        return np.concatenate(scores).astype(np.float32)

    return Curves(curve(pixels, filled), curve(filled, pixels))


def area(curve: Floats) -> float:
    """Area under a curve over shares from 0 to 1, by trapezia: the mean score on the way."""
    values = curve.astype(np.float64)
    return float((values[1:] + values[:-1]).mean() / 2)


def random_map(shape: tuple[int, int], key: Key) -> Floats:
    """A map that knows nothing, float32 (h, w) in [0, 1): the control for maps of that size."""
    return uniforms("random map", key, range(1), shape[0] * shape[1]).reshape(shape).astype(np.float32)


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Place of each value when the greatest comes first, int64 (n,)."""
    ties = uniforms("ties", (), range(1), len(values))[0]
    order = np.lexsort((ties, -values))
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values))
    return ranks
