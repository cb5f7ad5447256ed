"""The paper's Fig. 2: truth, reference run and pyramidal run of one slide side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from bench.figures import save_plot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.truth.labelled_tree import LabelledTree, RunCost

    Floats = npt.NDArray[np.float32]


def heatmap_of(tree: LabelledTree, thresholds: Sequence[float] | None) -> Floats:
    """Score of the last look at each level-0 tile, float32 (rows, cols); None: of a reference run."""
    corner, shape = _frame(tree)
    heatmap = np.full(shape, np.nan, np.float32)
    reached = tree.reached(thresholds) if thresholds is not None else (np.ones(len(tree.levels[0]), bool),)
    for n in range(len(reached) - 1, -1, -1):
        level, side = tree.levels[n], tree.spans[n]
        shown = reached[n] & ~np.isnan(level.score)
        col, row = (level.index[shown].astype(np.int64) * side - corner).T
        for down in range(side):
            for right in range(side):
                heatmap[row + down, col + right] = level.score[shown]
    return heatmap


def truth_of(tree: LabelledTree) -> Floats:
    """1 for tumour, 0 for other tissue, NaN for glass; float32 (rows, cols) of level-0 tiles."""
    corner, shape = _frame(tree)
    out = np.full(shape, np.nan, np.float32)
    col, row = (tree.levels[0].index - corner.astype(np.uint32)).T
    out[row, col] = tree.levels[0].positive
    return out


def _frame(tree: LabelledTree) -> tuple[npt.NDArray[np.int64], tuple[int, int]]:
    """First (col, row) and (rows, cols) of what holds all tiles, in level-0 tiles."""
    side = tree.spans[-1]
    roots = tree.levels[-1].index.astype(np.int64)
    low, high = roots.min(axis=0) * side, (roots.max(axis=0) + 1) * side
    return low, (int(high[1] - low[1]), int(high[0] - low[0]))


def _kept(cost: RunCost) -> str:
    return f"{100 * cost.retention:.0f} % kept" if cost.true_positives else "nothing to keep"


def draw_heatmaps(trees: Sequence[LabelledTree], thresholds: Sequence[float], prefix: Path) -> None:
    """One row a slide: truth, reference run, pyramidal run; as PNG and SVG."""
    plot = Figure(figsize=(10, 3.4 * len(trees)), layout="constrained")
    panels = plot.subplots(len(trees), 3, squeeze=False)
    for row, tree in zip(panels, trees, strict=True):
        cost = tree.cost_of(thresholds)
        maps = {
            f"{tree.slide}: truth": truth_of(tree),
            f"reference run: {tree.n_reference_tiles} tiles": heatmap_of(tree, None),
            f"pyramidal run: {cost.n_analysed} tiles, {_kept(cost)}": heatmap_of(tree, thresholds),
        }
        for axes, (title, values) in zip(row, maps.items(), strict=True):
            image = axes.imshow(values, cmap="coolwarm", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
        plot.colorbar(image, ax=row[-1], label="score of the last look")
    save_plot(plot, prefix, dpi=130)
