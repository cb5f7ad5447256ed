"""Finished results made without a run, and their files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.pyramid.tree import build_tree
from pyramidai_mpi.store.results.result import Execution, LevelRecord, ModelRecord, Result, SlideRecord, TissueRecord
from pyramidai_mpi.store.results.writer import create_file, finish_file, slab_of, write_slab
from tests.trees import TILE, played, rule_of

if TYPE_CHECKING:
    from pathlib import Path

CREATED = datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC)


def decided(level: int, col: int, row: int) -> Decision:
    """Mostly zoom, some stop, a few unreadable."""
    return [Decision.ZOOM, Decision.STOP, Decision.ZOOM, Decision.UNREADABLE][(level + col * 3 + row * 5) % 4]


def result_of(mask: np.ndarray | None = None, *, seed: int = 0, mode: Mode = Mode.PYRAMID, **changes: Any) -> Result:
    """A result over a mask of 2 pixels a level-0 tile (patchy tissue unless given)."""
    if mask is None:
        mask = np.random.default_rng(3).random((35, 45)) < 0.2
    rule = rule_of(mask)
    grid = rule.grid
    predictions = played(rule, decided, mode, seed)
    tree = build_tree(predictions, rule, mode)
    unreadable = predictions[predictions["decision"] == Decision.UNREADABLE]
    failed = np.zeros(len(unreadable), FAILED_DTYPE)
    for name in ("level", "col", "row"):
        failed[name] = unreadable[name]
    failed["reason"] = "Größe nicht lesbar".encode()
    fields: dict[str, Any] = {
        "slide": SlideRecord("slide.tif", "ab" * 32, "generic-tiff", (grid.l0_width, grid.l0_height), 0.2528, (7, 9)),
        "model": ModelRecord(
            "colour",
            ("normal", "tumor"),
            "tumor",
            TILE,
            2,
            0.25,
            "none",
            ("01" * 32, "23" * 32, "45" * 32),
            "name: x\n",
        ),
        "tissue": TissueRecord(mask, 32.0, "otsu-hsv-1"),
        "levels": tuple(
            LevelRecord(TILE, TILE * 2**n, n, 2.0**n, grid.level_dimensions(n), 0.2528 * 2**n, 0.5 - n / 10)
            for n in range(3)
        ),
        "tree": tree,
        "l0_coords": tuple(grid.l0_cell_corners(n, tree.levels[n].index) for n in range(3)),
        "failed": np.sort(failed, order=["level", "row", "col"]),
        "mode": str(mode),
        "n_reference_tiles": len(rule.reference_tiles()),
        "execution": Execution(
            {"command_line": "pyramidai slide.tif", "n_ranks": 2, "analyse_s": 1.5},
            np.array([(0, 3.5), (1, 4.5)], [("rank", "<i4"), ("busy_s", "<f8")]),
        ),
    }
    return Result(**(fields | changes))


def write_file(path: Path, result: Result, parts: int = 1) -> Path:
    """A whole result file, its rows written in as many slabs, last slab first."""
    create_file(path, result, CREATED, "0.1.0")
    for part in reversed(range(parts)):
        write_slab(path, slab_of(result, part, parts))
    finish_file(path, result.execution, result.digest())
    return path


def highest(made, level=0):
    """Rows of the tiles of a level, the highest score first."""
    tiles = made.tree.levels[level]
    score = np.where(tiles.decision == Decision.UNREADABLE, -1, tiles.probability[:, 1])
    return np.lexsort((tiles.index[:, 0], tiles.index[:, 1], -score))[: (score >= 0).sum()]
