"""What occlusion, RISE and LIME share: numbered masks, whose answers anybody can ask for in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.explain.chance import Key

MASKS_PER_BLOCK = 64
"""Numbers of masks that make one piece of work."""


class Perturbation(Protocol):
    """A method that looks at the tile through numbered masks.

    Masks follow from the tile's `Key`, its pixels and their numbers alone, whoever asks for which.
    """

    @property
    def n_masks(self) -> int:
        """Most masks, whole blocks or not; the first may be the tile as it is."""

    @property
    def map_shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""

    def perturbed(self, pixels: RgbArray, numbers: range, key: Key) -> RgbArray:
        """The tile through some masks, uint8 (len(numbers), S, S, 3), of a tile uint8 (S, S, 3)."""

    def map_of(self, pixels: RgbArray, scores: npt.NDArray[np.float32], key: Key) -> npt.NDArray[np.float32]:
        """The map, float32 (h, w), more where more speaks for the class, of the first masks' scores, (m,)."""

    def repeatability(self, pixels: RgbArray, scores: npt.NDArray[np.float32], key: Key) -> float:
        """Correlation to be expected of this map with one of as many other masks; NaN where no chance is in it."""


def blocks(n_masks: int) -> Iterator[range]:
    """Numbers of masks in blocks; the last may be shorter."""
    for first in range(0, n_masks, MASKS_PER_BLOCK):
        yield range(first, min(first + MASKS_PER_BLOCK, n_masks))


def split_half(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    """Repeatability of the whole by the correlation r of its halves: ``2 r / (1 + r)``.

    Spearman, and Brown, British Journal of Psychology 3, 1910: what a map of all masks would correlate with one of as
    many others, when maps of half of them each correlate as these do. 0 where they do not, or speak against each other;
    NaN where a map says the same everywhere.
    """
    a, b = (values.ravel().astype(np.float64) - values.mean(dtype=np.float64) for values in (one, other))
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    if not norm > 0:
        return float("nan")
    r = max(float((a * b).sum()) / norm, 0.0)
    return 2 * r / (1 + r)


def scores_of(
    perturbation: Perturbation, pixels: RgbArray, score_of: Callable[[RgbArray], npt.NDArray[np.float32]], key: Key
) -> npt.NDArray[np.float32]:
    """Scores of all masks one block after the other, float32 (n_masks,): what ranks share in a run."""
    return np.concatenate(
        [score_of(perturbation.perturbed(pixels, numbers, key)) for numbers in blocks(perturbation.n_masks)]
    )
