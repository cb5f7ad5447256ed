"""Class activation maps of a layer: Grad-CAM and Grad-CAM++."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Maps = npt.NDArray[np.floating]


def gradcam(activations: Maps, gradients: Maps) -> npt.NDArray[np.float32]:
    """Grad-CAM: maps summed with their mean gradients as weights, and what is negative cut off.

    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV 2017,
    equations 1 and 2.

    Parameters
    ----------
    activations
        (K, h, w): a layer's maps.
    gradients
        (K, h, w): the gradient of the class's logit by them.

    Returns
    -------
    numpy.ndarray
        float32 (h, w), at least 0.
    """
    return _weighted(activations, gradients.mean(axis=(1, 2), dtype=np.float64))


def gradcam_plus_plus(activations: Maps, gradients: Maps) -> npt.NDArray[np.float32]:
    """Grad-CAM++: weights from positive gradients, each place weighted by what it would add alone.

    Chattopadhay et al., "Grad-CAM++: generalized gradient-based visual explanations for deep convolutional networks",
    WACV 2018, equations 5, 11 and 19. The class's score is taken as the exponential of its logit, as there, since only
    then higher derivatives are powers of the gradient. The factor exp(logit), common to all places of a tile, is left
    out of the weights: it would say nothing of places, and overflow.

    Where the gradient is positive and ``2 + gradient * sum(map)`` is not (maps that sum to less than zero, which the
    paper's rectified ones cannot), the weight is not defined and taken as 0.

    Parameters
    ----------
    activations, gradients
        As of `gradcam`.

    Returns
    -------
    numpy.ndarray
        float32 (h, w), at least 0.
    """
    positive = np.maximum(gradients.astype(np.float64), 0)
    # alpha = g^2 / (2 g^2 + sum(A) g^3), cut by g^2: no zero over zero where the gradient is small
    below = 2 + positive * activations.sum(axis=(1, 2), dtype=np.float64)[:, None, None]
    alpha = np.divide(1.0, below, out=np.zeros_like(below), where=below > 0)
    return _weighted(activations, (alpha * positive).sum(axis=(1, 2)))


def _weighted(activations: Maps, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    summed = (activations * weights[:, None, None]).sum(axis=0)
    return np.asarray(np.maximum(summed, 0), np.float32)
