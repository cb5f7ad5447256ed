"""Explanations made without a network, and their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.types import FAILED_DTYPE
from pyramidai_mpi.store.explanations.contents import ExplainedTiles, Explanation
from pyramidai_mpi.store.explanations.writer import place_explanation
from pyramidai_mpi.store.results.result import Execution, ModelRecord, SlideRecord

if TYPE_CHECKING:
    from pathlib import Path

TILE = 32
"""Side of a tile in pixels, and at a downsample of 1 in level-0 pixels."""


def explained_tiles(
    index: np.ndarray,
    *,
    side: int = TILE,
    stride: int | None = None,
    map_side: int = 4,
    n_steps: int = 8,
    unreadable: tuple[int, ...] = (),
    signed: bool = False,
    seed: int = 0,
) -> ExplainedTiles:
    """Tiles (N, 2: col, row, row-major) with maps of noise, and curves that are better than chance's."""
    generator = np.random.default_rng(seed)
    n, n_points = len(index), n_steps + 1 if n_steps else 0
    maps = generator.random((n, map_side, map_side)) - (0.5 if signed else 0)
    tumour = generator.random(n)
    left = np.linspace(1, 0, n_points)
    curves = {
        "deletion": left**3,
        "insertion": left[::-1] ** (1 / 3),
        "random_deletion": left,
        "random_insertion": left[::-1],
    }
    real: dict[str, Any] = {
        "probability": np.stack([1 - tumour, tumour], axis=1),
        "maps": maps,
        **{name: tumour[:, None] * curve for name, curve in curves.items()},
    }
    for table in real.values():
        table[list(unreadable)] = np.nan
    return ExplainedTiles(
        index=np.asarray(index, np.uint32),
        l0_coords=np.asarray(index, np.int64) * (stride or side),
        l0_side=np.full(n, side, np.int64),
        repeatability=np.full(n, np.nan, np.float32),
        **{name: table.astype(np.float32) for name, table in real.items()},
    )


def explanation_of(
    tiles: ExplainedTiles | None = None, *, l0_size: tuple[int, int] = (320, 256), **changes: Any
) -> Explanation:
    """An explanation, of six tiles with one unreadable unless given."""
    if tiles is None:
        index = np.array([(1, 0), (2, 0), (1, 1), (4, 2), (5, 2), (9, 7)])
        tiles = explained_tiles(index, unreadable=(4,))
    unreadable = np.isnan(tiles.probability).any(axis=1)
    failed = np.zeros(unreadable.sum(), FAILED_DTYPE)
    failed["col"], failed["row"] = tiles.index[unreadable].T
    failed["reason"] = "Größe nicht lesbar".encode()
    failed["level"] = changes.get("level", 0)
    fields: dict[str, Any] = {
        "slide": SlideRecord("slide.tif", "ab" * 32, "generic-tiff", l0_size, 0.25, (0, 0)),
        "model": ModelRecord(
            "colour", ("normal", "tumor"), "tumor", TILE, 2, 0.25, "none", ("01" * 32, "23" * 32), "name: x\n"
        ),
        "method": "gradcam",
        "class_name": "tumor",
        "level": 0,
        "layer": "/features/last",
        "downsample": float(tiles.l0_side[0]) / TILE if len(tiles) else 1.0,
        "settings": {"steps": 8, "tiles": "top:6"},
        "tiles": tiles,
        "failed": failed,
        "execution": Execution(
            {"command_line": "pyramidai explain slide.h5", "n_ranks": 2, "analyse_s": 1.5},
            np.array([(0, 3.5), (1, 4.5)], [("rank", "<i4"), ("busy_s", "<f8")]),
        ),
    }
    return Explanation(**(fields | changes))


def write_explained(path: Path, explanation: Explanation | None = None) -> Path:
    """A file of explanations."""
    place_explanation(path, explanation or explanation_of())
    return path
