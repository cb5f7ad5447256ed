"""RISE: how sure the network is in the mean over random masks that leave a place to be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.explain.cells import bilinear, cell_means
from pyramidai_mpi.explain.chance import uniforms
from pyramidai_mpi.explain.methods import Fill
from pyramidai_mpi.explain.perturbation import split_half
from pyramidai_mpi.explain.replacement import replacement

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.explain.chance import Key

    Floats = npt.NDArray[np.float64]

MAP_CELL = 8
"""Pixels of a tile to a cell of the map: masks are smooth over four times as many."""


@dataclass(frozen=True)
class _Drawn:
    """Small masks, bool as float64 (n, s, s), and by how many pixels each is shifted, int64 (n, 2): down, right."""

    small: Floats
    shift: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rise:
    """Smooth random masks.

    Petsiuk, Das, Saenko, "RISE: randomized input sampling for explanation of black-box models", BMVC 2018, section 3.2
    and equation 6. A grid of ``grid * grid`` cells, each kept with a chance of `keep`, is made ``(grid + 1) * cell``
    pixels large (bilinear; cells of ``ceil(side / grid)`` pixels) and cut to the tile at a place drawn within one cell.
    The paper's map estimates the expected score given that a place is seen by ``sum(score * mask) / (keep * n)``, here
    in means over cells.

    That sum has in it how often chance has shown each place, times the mean score: where a network stays sure under
    most masks, one sees little else (repeatability 0.63 after 3850 masks, bench/README.md). A mask's mean is
    known to be `keep`, so this can be taken off: ``sum((score - mean(score)) * mask) / (keep * n)`` has the same
    expectation but for the mean score and a share of 1 in n (0.95 after 2220). It is what is `centred`:
    how much surer the network is where a place is seen than in the mean over all masks, 0 where it does not matter.

    There, pixels that a mask hides are black after normalisation; here they are `fill`.

    Attributes
    ----------
    side
        Of a tile in pixels.
    n_masks
        Most masks that are drawn.
    grid
        Cells on a side of the small masks.
    keep
        Share of them that stay.
    centred
        Whether what chance has shown more often is taken off, and the mean score with it; else the paper's sum.
    fill
        What stands where a mask hides the tile.
    """

    side: int
    n_masks: int = 4000
    grid: int = 7
    keep: float = 0.5
    centred: bool = True
    fill: Fill = Fill.BLUR

    @property
    def map_shape(self) -> tuple[int, int]:
        """Cells of about `MAP_CELL` pixels."""
        cells = max(1, round(self.side / MAP_CELL))
        return cells, cells

    @property
    def _cell(self) -> int:
        return -(-self.side // self.grid)

    def masks(self, numbers: range, key: Key) -> npt.NDArray[np.float32]:
        """Masks, float32 (n, S, S) from 0 (hidden) to 1 (seen)."""
        drawn = self._draw(numbers, key)
        out = np.empty((len(numbers), self.side, self.side), np.float32)
        for mask, small, (down, right) in zip(out, drawn.small.astype(np.float32), drawn.shift.tolist(), strict=True):
            # two samples on each axis, multiplied and added by element: the same bits by any library of matrices
            above, below, low = self._samples(down)
            left, beside, far = self._samples(right)
            rows = small[above] * (1 - low)[:, None] + small[below] * low[:, None]
            np.add(rows[:, left] * (1 - far), rows[:, beside] * far, out=mask)
        return out

    def perturbed(self, pixels: RgbArray, numbers: range, key: Key) -> RgbArray:
        """The tile through masks, uint8 (n, S, S, 3)."""
        filled = replacement(pixels, self.fill).astype(np.float32)
        difference = pixels - filled
        out = np.empty((len(numbers), *pixels.shape), np.uint8)
        for picture, mask in zip(out, self.masks(numbers, key), strict=True):
            picture[:] = np.rint(filled + mask[..., None] * difference)
        return out

    def map_of(self, pixels: RgbArray, scores: npt.NDArray[np.float32], key: Key) -> npt.NDArray[np.float32]:
        """The map of the first masks' scores, float32 (h, w)."""
        return self._summed(scores, key, range(len(scores))).astype(np.float32)

    def repeatability(self, pixels: RgbArray, scores: npt.NDArray[np.float32], key: Key) -> float:
        """By the masks of even and of odd numbers; see `perturbation.split_half`."""
        if len(scores) < 4:
            return float("nan")
        halves = (self._summed(scores, key, range(first, len(scores), 2)) for first in (0, 1))
        return split_half(*halves)

    def _summed(self, scores: npt.NDArray[np.float32], key: Key, which: range) -> Floats:
        """The map of some of the masks whose scores these are, float64 (h, w).

        The mean over a cell of a bilinear mask is bilinear in its small mask; so no mask is made large again.
        """
        drawn = self._draw(range(len(scores)), key)
        part = np.s_[which.start :: which.step]
        means = self._cell_weights()[drawn.shift[part]]  # (m, 2, h, s)
        # sums without a library of matrices, whose order of summing differs from machine to machine
        values = scores[part].astype(np.float64)
        mean = values.mean() if self.centred else 0.0
        rows = np.einsum("m,mhs,mst->mht", values - mean, means[:, 0], drawn.small[part])
        return np.asarray(np.einsum("mht,mwt->hw", rows, means[:, 1]) / (self.keep * len(which)))

    def _draw(self, numbers: range, key: Key) -> _Drawn:
        n = self.grid**2
        drawn = uniforms("rise", key, numbers, n + 2)
        small = (drawn[:, :n] < self.keep).astype(np.float64).reshape(-1, self.grid, self.grid)
        return _Drawn(small, (drawn[:, n:] * self._cell).astype(np.int64))

    def _places(self, shift: int) -> Floats:
        """Where the tile's pixels lie between the samples of the small mask, whose middles are 0, 1 ... grid - 1."""
        large = (self.grid + 1) * self._cell
        places = (np.arange(self.side) + shift + 0.5) * self.grid / large - 0.5
        return np.clip(places, 0, self.grid - 1)

    def _samples(self, shift: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        places = self._places(shift)
        first = np.minimum(places.astype(np.int64), self.grid - 2)
        return first, first + 1, (places - first).astype(np.float32)

    def _cell_weights(self) -> Floats:
        """How means over the map's cells follow from the small mask by shift, float64 (cell, h, s)."""
        weights = np.stack([bilinear(self._places(shift), self.grid) for shift in range(self._cell)])
        return cell_means(weights, (self.map_shape[0], self.grid))
