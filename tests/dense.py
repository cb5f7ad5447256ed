"""Finished results of runs with strides, made without pixels: a window's score is a function of its centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.base.types import Decision, Mode, WindowState, prediction_dtype
from pyramidai_mpi.pyramid.blocks import BlockRule
from pyramidai_mpi.pyramid.refining import Band
from pyramidai_mpi.pyramid.rule import TileRule, zooms_in
from pyramidai_mpi.pyramid.run_levels import doubling_strides, stepped_levels, uniform_levels
from pyramidai_mpi.pyramid.tissue import TissueMap
from pyramidai_mpi.pyramid.tree import build_tree, tree_of
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.store.results.result import (
    Execution,
    LevelRecord,
    ModelRecord,
    Result,
    SlideRecord,
    TissueRecord,
)
from tests.results import write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.pyramid.run_levels import RunLevels

WINDOW, SIZE, MPP = 64, (1024, 768), 0.25
"""Side of a window, width and height of the slide, and µm per pixel: those of the lossless slide."""
THRESHOLDS = (0.6, 0.25, 0.2)
"""Of the model's three levels."""


def hill(x: float, y: float) -> float:
    """A score by place: two hills with steep sides, low elsewhere."""
    far = min(np.hypot(x - 350, y - 300) / 170, np.hypot(x - 800, y - 620) / 120)
    return float(1 / (1 + np.exp(9 * (far - 1))))


def unreadable_at(x: float, y: float) -> bool:
    """A damaged spot, for scores to be missing."""
    return (400 <= x < 440 and 300 <= y < 330) or (300 <= x < 330 and 150 <= y < 165)


def uniform(stride: int, mode: Mode = Mode.PYRAMID) -> BlockRule:
    """One stride below a model of three levels, factor 2."""
    return BlockRule(uniform_levels(3, WINDOW, 2, stride, together=False), 2, 1, mode)


def adaptive(stride: int, mode: Mode = Mode.PYRAMID) -> BlockRule:
    """Strides in steps below the same."""
    steps = doubling_strides(stride, WINDOW)
    levels = stepped_levels(3, WINDOW, 2, steps, under_pyramid=mode is Mode.PYRAMID, cells=4)
    return BlockRule(levels, 2, 1, mode, Band())


def dense_result(
    blocks: BlockRule,
    score_at: Callable[[float, float], float] = hill,
    *,
    quickhash: str = "ab" * 32,
    name: str = "slide.tif",
) -> Result:
    """A result as a run by this rule writes it, over tissue that leaves out a corner and a hole."""
    levels = blocks.levels
    grid = levels.grid(SIZE, [1.0, 2.0, 4.0])
    pixel = levels.base // 2
    mask = np.ones([-(-extent // pixel) for extent in SIZE[::-1]], bool)
    mask[: 200 // pixel, : 260 // pixel] = False
    mask[500 // pixel : 600 // pixel, 300 // pixel : 460 // pixel] = False
    rule = TileRule(TissueMap(grid, mask, 2 * grid.bases), 0.05)
    records, failed = _played(blocks, rule, score_at)
    if levels.n_blocks:
        expected = np.concatenate([blocks.first(rule), blocks.closer(rule, records)])
        has_parents = blocks.start is not Mode.REFERENCE
        tree = tree_of(records, grid, expected, has_parents=has_parents, blocks=blocks)
    else:
        tree = build_tree(records, rule, blocks.mode)
    return Result(
        slide=SlideRecord(name, quickhash, "generic-tiff", SIZE, MPP, (0, 0)),
        model=ModelRecord(
            "hills",
            ("normal", "tumor"),
            "tumor",
            WINDOW,
            2,
            MPP,
            "none",
            ("01" * 32, "23" * 32, "45" * 32),
            "name: x\n",
        ),
        tissue=TissueRecord(mask, float(pixel), "od-1"),
        levels=tuple(_record(blocks, levels, n) for n in range(len(levels.each))),
        tree=tree,
        l0_coords=tuple(grid.l0_corners(n, tree.levels[n].index) for n in range(grid.n_levels)),
        failed=np.sort(np.array(failed, FAILED_DTYPE), order=["level", "row", "col"]),
        mode=str(blocks.mode),
        n_reference_tiles=1,
        execution=Execution(
            {
                "command_line": "pyramidai slide.tif",
                "mode": str(blocks.mode),
                "stride_mode": "window" if blocks.band is None else "adaptive",
                "min_tissue": 0.05,
                "n_ranks": 1,
                "analyse_s": 1.5,
            },
            np.array([(0, 3.5)], [("rank", "<i4"), ("busy_s", "<f8")]),
        ),
    )


def _record(blocks: BlockRule, levels: RunLevels, n: int) -> LevelRecord:
    one, ring = levels.each[n], blocks.ring(n)
    times = 2**one.network
    return LevelRecord(
        patch_size=WINDOW,
        patch_size_level0=WINDOW * times,
        patch_level=one.network,
        downsample=float(times),
        level_dim=(SIZE[0] // times, SIZE[1] // times),
        spacing_um_px=MPP * times,
        threshold=THRESHOLDS[one.network],
        network=one.network,
        cell=one.cell,
        block=one.block,
        margin=one.margin,
        base=levels.base,
        ring_before=ring.before,
        ring_after=ring.after,
    )


def _played(blocks: BlockRule, rule: TileRule, score_at: Callable[[float, float], float]) -> tuple[np.ndarray, list]:
    """Records of all tiles of a run, and what could not be read, by the rule and the function alone."""
    by_blocks = blocks.levels.n_blocks > 0
    dtype = blocks.record if by_blocks else prediction_dtype(2)
    waiting = blocks.first(rule) if by_blocks else rule.first_tiles(blocks.mode)
    done, failed = [np.zeros(0, dtype)], []
    while len(waiting):
        records = np.zeros(len(waiting), dtype)
        for record, task in zip(records, waiting, strict=True):
            level = int(task["level"])
            one, times = blocks.levels.each[level], 2 ** blocks.levels.each[level].network
            record["level"], record["col"], record["row"] = level, task["col"], task["row"]
            ring, threshold = blocks.ring(level), THRESHOLDS[one.network]
            known = blocks.known(rule, task) if one.block > 1 else None
            looked = np.array([[True]]) if known is None else known.state == WindowState.LOOKED
            score = np.full(looked.shape, np.nan, np.float32) if known is None else known.score
            state = np.where(looked, np.uint8(WindowState.LOOKED), 0 if known is None else known.state)
            for row, col in np.argwhere(looked).tolist():
                x, y = (
                    (int(task[axis]) * one.side + (k - ring.before) * one.cell - one.margin + WINDOW / 2) * times
                    for axis, k in (("col", col), ("row", row))
                )
                if level < blocks.levels.n_blocks and unreadable_at(x, y):
                    state[row, col] = WindowState.UNREADABLE
                else:
                    score[row, col] = score_at(x, y)
            if known is not None:
                side = blocks.side(level)
                record["score"][:side, :side], record["state"][:side, :side] = score, state
                decision = blocks.decide(level, score[None], state[None], threshold)[0]
            else:
                decision = Decision.ZOOM if score[0, 0] >= threshold else Decision.STOP
            best = blocks.best(score[None][:, ring.inner(one.block), ring.inner(one.block)])[0]
            record["decision"], record["probability"] = decision, (1 - best, best)
            if (state == WindowState.UNREADABLE).any():
                failed.append((level, task["col"], task["row"], b"damaged"))
        done.append(records)
        waiting = blocks.closer(rule, records) if by_blocks else rule.children(records[zooms_in(records, blocks.mode)])
    return np.concatenate(done), failed


def painted(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Score and level of the finest window over each cell of the finest stride, by the file's tables alone."""
    with h5py.File(path) as file:
        groups = [file["levels"][str(n)] for n in range(len(file["levels"]))]
        side = groups[0].attrs["cell_px"] * groups[0].attrs["downsample"]
        width, height = file["slide"].attrs["dimensions"]
        score = np.full((int(np.ceil(height / side)), int(np.ceil(width / side))), np.nan, np.float32)
        look = np.full(score.shape, -1)
        for n in reversed(range(len(groups))):
            attributes = groups[n].attrs
            block, before = int(attributes["block_cells"]), int(attributes["ring_before"])
            times = round(attributes["cell_px"] * attributes["downsample"] / side)
            for i, (col, row) in enumerate(groups[n]["index"][...].tolist()):
                for down, right in np.ndindex(block, block):
                    if block == 1:
                        found, state = groups[n]["probability"][i, 1], 1
                    else:
                        found = groups[n]["score"][i, before + down, before + right]
                        state = groups[n]["state"][i, before + down, before + right]
                    if state in (WindowState.LOOKED, WindowState.SAME):
                        y, x = (row * block + down) * times, (col * block + right) * times
                        score[y : y + times, x : x + times] = found
                        look[y : y + times, x : x + times] = n
    return score, look


def windows_in(path: Path, level: int) -> list[tuple[int, int, float, float, float, int]]:
    """Of each window of a level in the file's order column and row of its cell, centre x, y, score and state."""
    with h5py.File(path) as file:
        group = file[f"levels/{level}"]
        attributes = {name: float(value) for name, value in group.attrs.items() if np.ndim(value) == 0}
        block, before = int(attributes["block_cells"]), int(attributes["ring_before"])
        found = []
        for i, (col, row) in enumerate(group["index"][...].tolist()):
            for down, right in np.ndindex(block, block):
                place = (i, before + down, before + right)
                score = group["score"][place] if block > 1 else group["probability"][i, 1]
                state = int(group["state"][place]) if block > 1 else 1
                c, r = col * block + right, row * block + down
                x, y = (
                    (k * attributes["cell_px"] - attributes["margin_px"] + WINDOW / 2) * attributes["downsample"]
                    for k in (c, r)
                )
                if state in (WindowState.LOOKED, WindowState.SAME, WindowState.UNREADABLE):
                    found.append((c, r, x, y, float(score), state))
        return found


def mask_at_cells(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Whether the middle of each cell of the finest stride is tissue."""
    with h5py.File(path) as file:
        mask, pixel = file["tissue/mask"][...].astype(bool), file["tissue/mask"].attrs["downsample"]
        side = file["levels/0"].attrs["cell_px"] * file["levels/0"].attrs["downsample"]
    y, x = (
        np.minimum((np.arange(n) + 0.5) * side / pixel, most - 1).astype(int)
        for n, most in zip(shape, mask.shape, strict=True)
    )
    return mask[np.ix_(y, x)]


def dense_file(kind: str, slide: Path, folder: Path) -> Path:
    """A result file over the lossless slide.

    Kinds are ``uniform`` below a pyramid, ``uneven`` alone, ``wide`` with cells too large for blocks, and ``adaptive``.
    """
    blocks = {
        "uniform": uniform(16),
        "uneven": uniform(20, Mode.REFERENCE),
        "wide": uniform(50),
        "adaptive": adaptive(8),
    }[kind]
    return write_file(folder / f"{kind}.h5", dense_result(blocks, quickhash=quickhash(slide), name=slide.name))
