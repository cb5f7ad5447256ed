"""Colours as people see them who lack one kind of cone."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from skimage.color import rgb2lab

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

# Machado, Oliveira and Fernandes (2009), A physiologically-based model for simulation of color vision deficiency,
# table 1, severity 1: of linear RGB.
SEEN_BY = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def seen(colours: Sequence[Sequence[int]], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIE L*a*b* of colours (N, 3) of 0 to 255 as seen so, float64 (N, 3)."""
    srgb = np.asarray(colours, float) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ matrix.T, 0, 1)
    back = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(back))


def least_difference(colours: Sequence[Sequence[int]]) -> float:
    """The least distance in L*a*b* (CIE 1976) of two of them, whoever looks."""
    return min(
        float(np.linalg.norm(one - other))
        for matrix in SEEN_BY.values()
        for one, other in combinations(seen(colours, matrix), 2)
    )
