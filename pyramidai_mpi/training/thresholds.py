"""From validation slides to thresholds, and what they cost: the recursion of the design on stored probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.training.tiles import LEVELS, MIN_TISSUE, SCALE_FACTOR, TILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pyramidai_mpi.training.tiles import U8, GeneratedSlide

    F32 = NDArray[np.float32]


@dataclass(frozen=True)
class LevelGrid:
    """All tiles of one level of one slide: arrays (rows, columns) in grid order.

    Attributes
    ----------
    exists
        Holds tissue.
    probability
        Of tumour; 0 where there is no tissue.
    positive
        Half of the tissue is tumour.
    """

    exists: NDArray[np.bool_]
    probability: F32
    positive: NDArray[np.bool_]


@dataclass(frozen=True)
class Retention:
    """A pyramidal run against the reference run, summed over slides.

    Attributes
    ----------
    kept, true_positives
        True positive level-0 tiles of the pyramidal run and of the reference run.
    analysed, reference
        Tiles of either run, all levels counted.
    """

    kept: int
    true_positives: int
    analysed: int
    reference: int

    @property
    def rate(self) -> float:
        """Positive retention rate."""
        return self.kept / max(self.true_positives, 1)

    @property
    def speedup(self) -> float:
        """Tiles of the reference run over tiles of the pyramidal run."""
        return self.reference / max(self.analysed, 1)


def analyse_exhaustively(slide: GeneratedSlide, score: Callable[[int, U8], F32]) -> list[LevelGrid]:
    """Every tile of every level; ``score(level, pixels)`` gives probabilities. Tiles beyond the slide are white."""
    height, width = slide.levels[0].shape[:2]
    grids = []
    for level in LEVELS:
        # grids nest: each level has as many tiles as the roots' descendants need
        root = TILE * SCALE_FACTOR ** max(LEVELS)
        per_root = SCALE_FACTOR ** (max(LEVELS) - level)
        rows, cols = -(-height // root) * per_root, -(-width // root) * per_root
        side = TILE * SCALE_FACTOR**level
        r, c = (index.ravel() for index in np.mgrid[:rows, :cols].astype(np.int64))
        tissue, share = slide.truth.shares(c * side, r * side, side)
        exists = tissue >= MIN_TISSUE
        probability = np.zeros(len(r), np.float32)
        where = np.flatnonzero(exists)
        for part in np.array_split(where, max(1, len(where) // 256)):
            if len(part):
                pixels = np.stack([_cut(slide.levels[level], r[k], c[k]) for k in part])
                probability[part] = score(level, pixels)
        grids.append(
            LevelGrid(
                exists.reshape(rows, cols),
                probability.reshape(rows, cols),
                (exists & (share >= 0.5)).reshape(rows, cols),
            )
        )
    return grids


def _cut(image: U8, row: int, col: int) -> U8:
    part = image[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
    if part.shape[:2] == (TILE, TILE):
        return part
    tile = np.full((TILE, TILE, 3), 255, np.uint8)
    tile[: part.shape[0], : part.shape[1]] = part
    return tile


def choose_thresholds(slides: list[list[LevelGrid]], keep: float) -> list[float]:
    """Threshold of each level, finest first.

    Level 0: the best balanced accuracy. Above: the highest value at which tiles holding a share `keep` of the true
    positive level-0 tiles zoom in, so that pruning costs about ``1 - keep`` of them per level.
    """
    exists = np.concatenate([grids[0].exists.ravel() for grids in slides])
    probability = np.concatenate([grids[0].probability.ravel() for grids in slides])[exists]
    positive = np.concatenate([grids[0].positive.ravel() for grids in slides])[exists]
    candidates = np.linspace(0.05, 0.95, 91)
    accuracy = [(np.mean(probability[positive] >= t) + np.mean(probability[~positive] < t)) / 2 for t in candidates]
    chosen = [round(float(candidates[int(np.argmax(accuracy))]), 2)]
    for level in LEVELS[1:]:
        scores, weights = [], []
        for grids in slides:
            found = grids[0].positive & (grids[0].probability >= chosen[0])
            scores.append(grids[level].probability.ravel())
            weights.append(_sum_children(found, level).ravel())
        score, weight = np.concatenate(scores), np.concatenate(weights)
        order = np.argsort(-score)
        reached = np.cumsum(weight[order]) / max(weight.sum(), 1)
        last = score[order][min(int(np.searchsorted(reached, keep)), len(order) - 1)]
        # rounded down: a threshold may only keep more
        chosen.append(round(float(np.clip(np.floor(last * 1000) / 1000, 0.001, 0.5)), 3))
    return chosen


def _sum_children(found: NDArray[np.bool_], level: int) -> NDArray[np.int64]:
    f = SCALE_FACTOR**level
    rows, cols = found.shape[0] // f, found.shape[1] // f
    out: NDArray[np.int64] = found.reshape(rows, f, cols, f).sum(axis=(1, 3), dtype=np.int64)
    return out


def _to_children(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask.repeat(SCALE_FACTOR, axis=0).repeat(SCALE_FACTOR, axis=1)


def measure_retention(slides: list[list[LevelGrid]], thresholds: list[float]) -> Retention:
    """Run the recursion on stored probabilities."""
    kept = true_positives = analysed = reference = 0
    for grids in slides:
        roots = grids[-1].exists
        under_roots = roots
        visited = roots
        analysed += int(visited.sum())
        for level in reversed(LEVELS[:-1]):
            zoomed = visited & (grids[level + 1].probability >= thresholds[level + 1])
            visited = _to_children(zoomed) & grids[level].exists
            under_roots = _to_children(under_roots) & grids[level].exists
            analysed += int(visited.sum())
        found = grids[0].positive & (grids[0].probability >= thresholds[0])
        true_positives += int((found & under_roots).sum())
        kept += int((found & visited).sum())
        reference += int(under_roots.sum())
    return Retention(kept, true_positives, analysed, reference)
