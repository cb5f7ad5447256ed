"""What is measured of a patch: size and shape of its nuclei, their texture, and how colourful it is.

Texture is Haralick's (Textural features for image classification, IEEE Trans SMC, 1973), from pairs of pixels that both
lie in one nucleus, averaged over nuclei; colourfulness is Hasler and Suesstrunk's (Measuring colourfulness in natural
images, SPIE 5007, 2003).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

    Labels = npt.NDArray[np.int32]

GREY_LEVELS = 32
"""Greys that texture tells apart: nuclei of 100 pixels have too few pairs for 256."""

PAIR_UM = 1.25
"""Distance of a pair, rounded to whole pixels: the 5 of Graziani et al. (2018) at 0.25 µm/px, 2 at 0.5, 1 at 1."""

MEASURES = {
    "area": "mean area of a nucleus, µm²",
    "perimeter": "mean perimeter of a nucleus, µm",
    "eccentricity": "mean eccentricity of a nucleus: 0 is a circle",
    "count": "nuclei in the patch",
    "contrast": "mean contrast of grey within a nucleus (Haralick)",
    "asm": "mean angular second moment of grey within a nucleus (Haralick): 1 is one grey",
    "correlation": "mean correlation of grey within a nucleus (Haralick)",
    "colourfulness": "colourfulness of the patch (Hasler and Suesstrunk)",
}
"""What can be measured, by name."""

WITHOUT_NUCLEI = frozenset({"colourfulness"})

_LEAST_PAIRS = 20


@dataclass(frozen=True)
class Haralick:
    """Measures of co-occurrence, float64 (n,); NaN where there is no pair."""

    asm: npt.NDArray[np.float64]
    contrast: npt.NDArray[np.float64]
    correlation: npt.NDArray[np.float64]


def measure(pixels: RgbArray, labels: Labels, spacing: float) -> dict[str, float]:
    """All of `MEASURES` of one patch.

    Nuclei that the patch's border cuts count as a half, and have no shape and no texture.

    Parameters
    ----------
    pixels
        uint8 (S, S, 3).
    labels
        int32 (S, S): which nucleus a pixel belongs to, 0 for none.
    spacing
        µm per pixel; NaN measures in pixels, and pairs are then 5 pixels apart.

    Returns
    -------
    dict
        NaN where there is no whole nucleus, or none with pairs.
    """
    is_cut = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    is_cut = is_cut[is_cut > 0]
    numbers = np.unique(labels)
    n_nuclei = int((numbers > 0).sum())
    whole = np.where(np.isin(labels, is_cut), 0, labels)
    found = dict.fromkeys(MEASURES, math.nan)
    found["count"] = n_nuclei - 0.5 * len(is_cut)
    found["colourfulness"] = colourfulness(pixels)
    if n_nuclei > len(is_cut):
        scale = 1.0 if math.isnan(spacing) else spacing
        found |= _shapes(whole, scale)
        distance = 5 if math.isnan(spacing) else max(round(PAIR_UM / spacing), 1)
        found |= _texture(grey_levels(pixels), whole, distance)
    return found


def _shapes(labels: Labels, spacing: float) -> dict[str, float]:
    from skimage.measure import regionprops_table

    table = regionprops_table(labels, properties=("area", "perimeter", "eccentricity"))  # type: ignore[no-untyped-call]
    area, perimeter, eccentricity = (
        float(np.mean(table[name], dtype=np.float64)) for name in ("area", "perimeter", "eccentricity")
    )
    return {"area": area * spacing**2, "perimeter": perimeter * spacing, "eccentricity": eccentricity}


def _texture(grey: npt.NDArray[np.uint8], labels: Labels, distance: int) -> dict[str, float]:
    # specks have too few pairs, and tables of thousands of them would fill the memory
    labels = np.where(2 * np.bincount(labels.ravel())[labels] < _LEAST_PAIRS, 0, labels)
    counts = cooccurrences(grey, labels, (0, distance)) + cooccurrences(grey, labels, (distance, 0))
    enough = counts.sum(axis=(1, 2)) >= 2 * _LEAST_PAIRS
    if not enough.any():
        return {}
    of_each = haralick(counts[enough])
    return {name: float(getattr(of_each, name).mean()) for name in ("contrast", "asm", "correlation")}


def grey_levels(pixels: RgbArray, levels: int = GREY_LEVELS) -> npt.NDArray[np.uint8]:
    """Luminance (ITU-R BT.601) in `levels` equal steps, uint8 (S, S) from 0."""
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    grey = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return (grey * levels // 256).astype(np.uint8)


def cooccurrences(
    grey: npt.NDArray[np.uint8], labels: Labels, offset: tuple[int, int], levels: int = GREY_LEVELS
) -> npt.NDArray[np.int64]:
    """How often two greys lie at an offset from each other within one nucleus, counted both ways.

    Parameters
    ----------
    grey
        uint8 (h, w), below `levels`.
    labels
        int32 (h, w); a pair counts when both pixels have the same label above 0.
    offset
        Rows and columns from one pixel to the other, none negative.
    levels
        How many greys there are.

    Returns
    -------
    numpy.ndarray
        int64 (n, levels, levels), symmetric; one for each label above 0, ascending.
    """
    down, right = offset
    height, width = labels.shape
    one, other = np.s_[: max(height - down, 0), : max(width - right, 0)], np.s_[down:, right:]
    numbers = np.unique(labels)
    numbers = numbers[numbers > 0]
    is_pair = (labels[one] == labels[other]) & (labels[one] > 0)
    which = np.searchsorted(numbers, labels[one][is_pair])
    code = (which * levels + grey[one][is_pair]) * levels + grey[other][is_pair]
    counts = np.bincount(code, minlength=len(numbers) * levels * levels).reshape(len(numbers), levels, levels)
    return np.asarray(counts + counts.transpose(0, 2, 1), np.int64)


def haralick(counts: npt.NDArray[np.integer]) -> Haralick:
    """Angular second moment, contrast and correlation of tables of co-occurrences (n, levels, levels).

    With p the share of a pair of greys i and j: sum of p^2; of p (i - j)^2; of p (i - m)(j - m) over the variance,
    which is 1 where there is one grey alone, as in scikit-image.
    """
    total = counts.sum(axis=(1, 2), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        share = counts / total[:, None, None]
    i, j = np.indices(counts.shape[1:])
    mean_i, mean_j = (share * i).sum(axis=(1, 2)), (share * j).sum(axis=(1, 2))
    off_i, off_j = i - mean_i[:, None, None], j - mean_j[:, None, None]
    deviation = np.sqrt((share * off_i**2).sum(axis=(1, 2)) * (share * off_j**2).sum(axis=(1, 2)))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (share * off_i * off_j).sum(axis=(1, 2)) / deviation
    return Haralick(
        (share**2).sum(axis=(1, 2)),
        (share * (i - j) ** 2).sum(axis=(1, 2)),
        np.where(deviation < 1e-15, 1.0, correlation),
    )


def colourfulness(pixels: RgbArray) -> float:
    """How colourful people find a picture, from 0 for greys to about 100."""
    red, green, blue = (pixels[..., channel].astype(np.float64) for channel in range(3))
    red_green, yellow_blue = red - green, 0.5 * (red + green) - blue
    spread = math.hypot(float(red_green.std()), float(yellow_blue.std()))
    return spread + 0.3 * math.hypot(float(red_green.mean()), float(yellow_blue.mean()))
