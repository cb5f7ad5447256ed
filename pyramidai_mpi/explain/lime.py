"""LIME: the linear model over superpixels that is nearest to the network around one tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from skimage.segmentation import slic

from pyramidai_mpi.explain.cells import cell_means
from pyramidai_mpi.explain.chance import bits
from pyramidai_mpi.explain.methods import Fill
from pyramidai_mpi.explain.perturbation import split_half
from pyramidai_mpi.explain.replacement import replacement
from pyramidai_mpi.explain.rise import MAP_CELL

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.explain.chance import Key

    Floats = npt.NDArray[np.float64]

_SMALL_REST = 1e-14
"""What may be left of a target, as a share of its length."""
_MOST_STEPS = 10
"""Steps at most, times the unknowns; without rounding one each is enough."""


@dataclass(frozen=True)
class Lime:
    """Superpixels that are there or not, by the toss of a coin each.

    Ribeiro, Singh, Guestrin, "Why should I trust you? Explaining the predictions of any classifier", KDD 2016, section
    3.3: weights w that minimise ``sum(pi * (score - w z - b)^2) + ridge * |w|^2`` over masks z with the kernel ``pi =
    exp(-D^2 / kernel^2)``. D is the cosine distance of z from the whole tile, which the paper has for text and its
    authors' software for pictures too (the paper's own Euclidean one depends on how many superpixels there are).
    All superpixels have weights: none are selected first. Number 0 is the tile as it is.

    Attributes
    ----------
    side
        Of a tile in pixels.
    n_masks
        Most masks that are drawn.
    segments
        Superpixels that SLIC is asked for; it may find fewer.
    kernel
        Width of the kernel.
    ridge
        Penalty of the weights' squares; the intercept has none.
    fill
        What stands where superpixels are not.
    """

    side: int
    n_masks: int = 1024
    segments: int = 50
    kernel: float = 0.25
    ridge: float = 1.0
    fill: Fill = Fill.BLUR

    @property
    def map_shape(self) -> tuple[int, int]:
        """Cells of about `rise.MAP_CELL` pixels."""
        cells = max(1, round(self.side / MAP_CELL))
        return cells, cells

    def superpixels(self, pixels: RgbArray) -> npt.NDArray[np.int64]:
        """Number of each pixel's superpixel, int64 (S, S) from 0, without gaps (SLIC, Achanta et al. 2012)."""
        return _superpixels(pixels.tobytes(), pixels.shape, self.segments)

    def present(self, n_superpixels: int, numbers: range, key: Key) -> npt.NDArray[np.bool_]:
        """Which superpixels each mask leaves, bool (n, K)."""
        drawn = bits("lime", key, numbers, n_superpixels)
        return np.asarray(drawn | (np.array(numbers) == 0)[:, None])

    def perturbed(self, pixels: RgbArray, numbers: range, key: Key) -> RgbArray:
        """The tile with superpixels taken away, uint8 (n, S, S, 3)."""
        labels = self.superpixels(pixels)
        left = self.present(int(labels.max()) + 1, numbers, key)
        filled = replacement(pixels, self.fill)
        every = np.repeat(labels[..., None], 3, axis=2)
        difference = pixels ^ filled
        out = np.empty((len(numbers), *pixels.shape), np.uint8)
        for picture, mask in zip(out, left.astype(np.uint8) * np.uint8(255), strict=True):
            # the same as np.where, in a fifth of the time
            np.bitwise_and(mask[every], difference, out=picture)
            picture ^= filled
        return out

    def weights(
        self, pixels: RgbArray, scores: npt.NDArray[np.float32], key: Key, which: slice = slice(None)
    ) -> Floats:
        """Weights of the superpixels, float64 (K,), by some of the first masks' scores (m,)."""
        n = int(self.superpixels(pixels).max()) + 1
        z = self.present(n, range(len(scores)), key)[which].astype(np.float64)
        y = scores[which].astype(np.float64)
        # the cosine of z and the vector of ones; a mask that leaves nothing is as far away as can be
        distance = 1 - np.sqrt(z.sum(axis=1) / n)
        near = np.exp(-((distance / self.kernel) ** 2))
        near_sum = near.sum()
        # sums by element or in `einsum`: a library of matrices gives other last bits with another number of threads
        z_mean, y_mean = (near[:, None] * z).sum(axis=0) / near_sum, (near * y).sum() / near_sum
        centred = np.ascontiguousarray((z - z_mean).T)
        weighted = centred * near
        gram = np.einsum("km,lm->kl", weighted, centred)
        gram[np.diag_indices(n)] += self.ridge
        return shortest_solution(gram, np.einsum("km,m->k", weighted, y - y_mean))

    def map_of(self, pixels: RgbArray, scores: npt.NDArray[np.float32], key: Key) -> npt.NDArray[np.float32]:
        """Weights, in means over cells, float32 (h, w)."""
        return self._laid_out(pixels, self.weights(pixels, scores, key)).astype(np.float32)

    def repeatability(self, pixels: RgbArray, scores: npt.NDArray[np.float32], key: Key) -> float:
        """By the masks of even and of odd numbers; see `perturbation.split_half`."""
        if len(scores) < 4:
            return float("nan")
        halves = (self._laid_out(pixels, self.weights(pixels, scores, key, np.s_[k::2])) for k in (0, 1))
        return split_half(*halves)

    def _laid_out(self, pixels: RgbArray, weights: Floats) -> Floats:
        return cell_means(weights[self.superpixels(pixels)], self.map_shape)


def shortest_solution(matrix: Floats, target: Floats) -> Floats:
    """The shortest x with ``matrix x = target``, float64 (K,): of fewer masks than superpixels there are many.

    By conjugate gradients from 0 (Hestenes and Stiefel, 1952), which never leave the span of the matrix. One thread
    adds by element, so that last bits follow from the numbers alone; a library's solver has others on other cores.

    Parameters
    ----------
    matrix
        float64 (K, K), symmetric, no eigenvalue below 0.
    target
        float64 (K,), in the span of the matrix.
    """
    found, left = np.zeros_like(target), target.copy()
    towards, size = left.copy(), float((left * left).sum())
    enough = _SMALL_REST**2 * size
    for _ in range(_MOST_STEPS * len(target)):
        if not size > enough:
            break
        moved = np.einsum("kl,l->k", matrix, towards)
        curvature = float((towards * moved).sum())
        if not curvature > 0:
            break
        found += size / curvature * towards
        left -= size / curvature * moved
        before, size = size, float((left * left).sum())
        towards = left + size / before * towards
    return found


@lru_cache(maxsize=4)
def _superpixels(pixels: bytes, shape: tuple[int, ...], n: int) -> npt.NDArray[np.int64]:
    """The same for all blocks of a tile, which a rank does one after the other."""
    found = slic(np.frombuffer(pixels, np.uint8).reshape(shape), n_segments=n, compactness=10, sigma=1, start_label=0)
    labels: npt.NDArray[np.int64] = np.unique(found, return_inverse=True)[1].reshape(shape[:2]).astype(np.int64)
    labels.flags.writeable = False
    return labels
