"""Integrated gradients: what each pixel adds to the logit between a baseline and the tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

    Floats = npt.NDArray[np.float32]

_AT_ONCE = 8
"""Steps whose gradients are asked for at once: their pixels take 5 MB at 224."""


def integrated_gradients(
    pixels: RgbArray, gradients_at: Callable[[Floats], Floats], steps: int, baseline: npt.NDArray[np.generic]
) -> Floats:
    """Integrated gradients of a tile, summed over the colours.

    Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks", ICML 2017, equation 1; the integral by the rule
    of Gauss and Legendre, which is exact for polynomials of degree ``2 * steps - 1``. The map sums to logit(tile) -
    logit(baseline) (completeness), but for the error of that rule; a network of rectifiers is piecewise linear, so
    there is one.

    Parameters
    ----------
    pixels
        uint8 (S, S, 3).
    gradients_at
        Gradients of the logit by pixels, float32 (n, S, S, 3) of pixels float32 (n, S, S, 3) in 0..255.
    steps
        Places of the rule.
    baseline
        (S, S, 3) in 0..255: where nothing is yet; see `replacement`.

    Returns
    -------
    numpy.ndarray
        float32 (S, S), signed.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    start = baseline.astype(np.float64)
    difference = pixels.astype(np.float64) - start
    total = np.zeros_like(difference)
    for first in range(0, steps, _AT_ONCE):
        shares = (nodes[first : first + _AT_ONCE] + 1) / 2
        gradients = gradients_at((start + shares[:, None, None, None] * difference).astype(np.float32))
        for weight, gradient in zip(weights[first : first + _AT_ONCE], gradients, strict=True):
            total += weight / 2 * gradient
    return np.asarray((total * difference).sum(axis=2), np.float32)
