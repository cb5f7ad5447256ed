"""A slide in a few numbers.

`histogram`: the paper's (Reinbigler et al. 2025, section 4.4), how the scores of the tiles are distributed.

`heatmap`: 30 features of the map of scores, after Wang et al. 2016 ("Deep learning for identifying metastatic breast
cancer"). For thresholds 0.5, 0.6 ... 0.9: the share of the tissue with at least this score, and the sum of
``score - threshold`` there over the tissue. For the two largest regions of score >= 0.5 (tiles that touch, corners
included): area, eccentricity, extent, area of the bounding box, major axis, largest, smallest and mean score, aspect
(height over width of the bounding box), solidity; 0 where there is no such region. Areas and lengths are in level-0
tiles, which have the same size in µm on all slides of a model; in windows' sides where a map's cells are smaller than
its windows, so that a classifier can be used at other strides. (Counts of 31 add the label.)
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from skimage import measure

from pyramidai_mpi.pyramid.decision import passes

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
_REGION_THRESHOLD = 0.5
_N_REGIONS = 2
_REGION_FEATURES = (
    "area",
    "eccentricity",
    "extent",
    "bbox_area",
    "major_axis",
    "max_score",
    "min_score",
    "mean_score",
    "aspect",
    "solidity",
)


class FeatureKind(StrEnum):
    """What a slide is described by."""

    HISTOGRAM = "histogram"
    HEATMAP = "heatmap"


def feature_names(kind: FeatureKind, bins: int) -> tuple[str, ...]:
    """Names of the features, in order."""
    if kind is FeatureKind.HISTOGRAM:
        return tuple(f"share_{n / bins:.3g}_to_{(n + 1) / bins:.3g}" for n in range(bins))
    over = [f"{what}_{threshold:g}" for threshold in THRESHOLDS for what in ("area_share", "excess")]
    return (*over, *(f"region{n + 1}_{name}" for n in range(_N_REGIONS) for name in _REGION_FEATURES))


def features_of(score: npt.NDArray[np.float32], kind: FeatureKind, bins: int, cell: float = 1.0) -> Floats:
    """Describe a slide.

    Parameters
    ----------
    score
        float32 (rows, cols), NaN where there is no tile (see `score_map.ScoreMap.score`).
    kind
        Which features.
    bins
        Number of bins of the histogram.
    cell
        Side of a cell of the map in sides of a level-0 tile.

    Returns
    -------
    numpy.ndarray
        float64 (F,), as `feature_names`; all 0 for a slide without tiles.
    """
    if kind is FeatureKind.HISTOGRAM:
        return histogram_features(score, bins)
    return heatmap_features(score, cell)


def histogram_features(score: npt.NDArray[np.float32], bins: int) -> Floats:
    """Share of the tiles in each of `bins` equal parts of [0, 1], the last closed; float64 (bins,)."""
    values = score[~np.isnan(score)].astype(np.float64)
    counts = np.bincount(np.clip((values * bins).astype(np.int64), 0, bins - 1), minlength=bins)
    return np.asarray(counts / max(len(values), 1), np.float64)


def heatmap_features(score: npt.NDArray[np.float32], cell: float = 1.0) -> Floats:
    """The 30 features of the module's description, float64 (30,); arguments as of `features_of`."""
    known = score[~np.isnan(score)]
    n_tissue = max(len(known), 1)
    found: list[float] = []
    for threshold in THRESHOLDS:
        over = known[passes(known, threshold)].astype(np.float64)
        found += [len(over) / n_tissue, float((over - threshold).sum()) / n_tissue]
    labels = measure.label(passes(score, _REGION_THRESHOLD), connectivity=2)  # type: ignore[no-untyped-call]
    area = np.bincount(labels.ravel())[1:]
    largest = np.argsort(-area, kind="stable")[:_N_REGIONS]
    for label in (largest + 1).tolist():
        # of its own box alone: a map at a fine stride has 10^7 cells
        rows, cols = (np.flatnonzero((labels == label).any(axis=axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
        inside = (labels[box] == label).astype(np.uint8)
        (region,) = measure.regionprops(inside, score[box].astype(np.float64))  # type: ignore[no-untyped-call]
        found += [
            float(region.area) * cell**2,
            float(region.eccentricity),
            float(region.extent),
            float(region.area_bbox) * cell**2,
            float(region.axis_major_length) * cell,
            float(region.intensity_max),
            float(region.intensity_min),
            float(region.intensity_mean),
            inside.shape[0] / inside.shape[1],
            float(region.solidity),
        ]
    found += [0.0] * (len(_REGION_FEATURES) * (_N_REGIONS - len(largest)))
    return np.array(found)
