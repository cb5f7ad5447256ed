"""Slides as results, with tumour or without, whose tiles have drawn scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.pyramid.tree import build_tree
from pyramidai_mpi.store.results.result import Execution, LevelRecord, Result, SlideRecord, TissueRecord
from tests.results import result_of, write_file
from tests.trees import TILE, played, rule_of
from tests.truth.files import feature

if TYPE_CHECKING:
    from pathlib import Path

THRESHOLDS = (0.5, 0.4, 0.3)


@dataclass(frozen=True)
class Scores:
    """Score of every tile of a slide: high over a tumour disk, low elsewhere, with noise."""

    seed: int
    has_tumor: bool
    cols: int = 22
    rows: int = 17

    def in_tumor(self, level: int, col: int, row: int) -> bool:
        side = 2**level
        x, y = (col + 0.5) * side, (row + 0.5) * side
        return self.has_tumor and bool(np.hypot(x - self.cols / 2, y - self.rows / 2) < 3 + self.seed % 3)

    def outlines(self) -> list[dict]:
        """Truth as GeoJSON: the square of every level-0 tile in the tumour."""
        return [
            feature([[[x * TILE, y * TILE] for x, y in ((c, r), (c + 1, r), (c + 1, r + 1), (c, r + 1))]])
            for r in range(self.rows)
            for c in range(self.cols)
            if self.in_tumor(0, c, r)
        ]

    def of(self, level: int, col: int, row: int) -> float:
        rng = np.random.default_rng([self.seed, level, col, row])
        return float(rng.uniform(0.55, 1.0) if self.in_tumor(level, col, row) else rng.uniform(0.0, 0.45) ** 1.5)


def scored_result(
    scores: Scores,
    mode: Mode = Mode.EXHAUSTIVE,
    name: str | None = None,
    mpp: float = 0.25,
    level_s: tuple[float, ...] = (),
) -> Result:
    """A result of a run decided by `THRESHOLDS`, whose two ranks worked `level_s` seconds on each level."""
    mask = np.ones((2 * scores.rows, 2 * scores.cols), bool)
    mask[:6, :9] = False  # glass
    rule = rule_of(mask)
    name = name or f"{'tumor' if scores.has_tumor else 'normal'}_{scores.seed:03}.tif"

    def decided(level: int, col: int, row: int) -> Decision:
        return Decision.ZOOM if np.float32(scores.of(level, col, row)) >= THRESHOLDS[level] else Decision.STOP

    predictions = played(rule, decided, mode)
    for one in predictions:
        score = np.float32(scores.of(int(one["level"]), int(one["col"]), int(one["row"])))
        one["probability"] = (1 - score, score)
    tree = build_tree(predictions, rule, mode)
    grid = rule.grid
    return replace(
        result_of(mask),
        slide=SlideRecord(
            name, f"{scores.seed:02x}{int(scores.has_tumor)}" * 8, "generic-tiff",
            (grid.l0_width, grid.l0_height), mpp, (0, 0),
        ),
        tissue=TissueRecord(mask, 32.0, "otsu-hsv-1"),
        levels=tuple(
            LevelRecord(TILE, TILE * 2**n, n, 2.0**n, grid.level_dimensions(n), mpp * 2**n, THRESHOLDS[n])
            for n in range(3)
        ),
        tree=tree,
        l0_coords=tuple(grid.l0_cell_corners(n, tree.levels[n].index) for n in range(3)),
        failed=result_of(mask).failed[:0],
        mode=str(mode),
        n_reference_tiles=len(rule.reference_tiles()),
        execution=Execution(
            {"mode": str(mode), "min_tissue": 0.05, "n_ranks": 2},
            np.array(
                [(rank, share * np.pad(level_s, (0, 16 - len(level_s)))) for rank, share in ((0, 0.25), (1, 0.75))],
                [("rank", "<i4"), ("level_s", "<f8", (16,))],
            ),
        ),
    )  # fmt: skip


def write_slides(folder: Path, n: int, mode: Mode = Mode.EXHAUSTIVE, first: int = 0) -> list[Path]:
    """Files of as many tumour as normal slides."""
    folder.mkdir(exist_ok=True)
    written = []
    for seed in range(first, first + n):
        for has_tumor in (True, False):
            result = scored_result(Scores(seed, has_tumor), mode)
            written.append(write_file(folder / f"{result.slide.name.removesuffix('.tif')}.h5", result))
    return written
