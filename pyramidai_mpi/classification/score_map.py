"""What a result says of every level-0 tile of its slide, pruned ones included."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.evaluation.dense import coarser_maps
from pyramidai_mpi.evaluation.dense_results import name_of_map, strides_of
from pyramidai_mpi.pyramid.decision import decide, reached
from pyramidai_mpi.pyramid.last_look import paint_last_look
from pyramidai_mpi.store.results.dense import read_dense_map
from pyramidai_mpi.store.results.reader import open_result, read_levels, read_rule
from pyramidai_mpi.store.results.tables import iter_rows, read_header, read_mask_rows, read_mode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.pyramid.dense_map import DenseMap
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.pyramid.tree import TreeLevel
    from pyramidai_mpi.store.results.tables import ResultFile


@dataclass(frozen=True)
class ScoreMap:
    """Scores of one slide on the grid of its level-0 tiles.

    Attributes
    ----------
    slide, quickhash
        File name and quick hash of the slide.
    l0_size
        Width and height in level-0 pixels.
    run
        Which tiles the scores are of, in words: the run's mode, and the thresholds of a pyramidal one.
    level_sha256
        Hashes of the networks, level 0 first.
    score
        float32 (rows, cols): score of the last look at each tile of a reference run, its own or that of the nearest
        ancestor that could be read; NaN where there is no such tile, or nothing could be read.
        Of a run with strides, of each cell of its finest one: its own or that of the window that it was left to; a cell
        that could not be read is NaN.
    cell
        Side of what a score stands for in sides of a window: 1 for tiles, less for cells of a stride.
    """

    slide: str
    quickhash: str
    l0_size: tuple[int, int]
    run: str
    level_sha256: tuple[str, ...]
    score: npt.NDArray[np.float32]
    cell: float = 1.0

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Tiles with a score, bool (rows, cols)."""
        return ~np.isnan(self.score)


def read_score_map(
    path: Path, thresholds: Mapping[int, float] | None = None, *, pyramid: bool = False, stride: int | None = None
) -> ScoreMap:
    """Read a result of any mode.

    Parameters
    ----------
    path
        Result file.
    thresholds
        Of a pyramidal run to make of an exhaustive result, by level; the result's own where a level is not named.
    pyramid
        Make it even where no threshold is given; the result of a pyramidal run is taken as it is.
    stride
        Take the windows at every so many pixels, of the result of a run that looked everywhere at a finer stride.

    Raises
    ------
    InputError
        When it cannot be read, or is to become a pyramidal run and is not exhaustive, or has strides.
    UsageError
        When a threshold names a level that the result has not, or a stride windows that it has not.
    """
    with open_result(path) as file:
        header, mode = read_header(file), read_mode(file)
        if stride is not None or header.levels[0].cell is not None:
            if thresholds or pyramid:
                raise InputError(f"{path}: is of a run with strides; a pyramidal one can be made of tiles only")
            return _read_windows(file, path, stride)
        rule, levels = read_rule(file), read_levels(file)
    own = {n: level.threshold for n, level in enumerate(header.levels)}
    if thresholds or (pyramid and mode is not Mode.PYRAMID):
        if mode is not Mode.EXHAUSTIVE:
            raise InputError(
                f"{path}: is the result of a {mode} run; a pyramidal one can be made of an exhaustive one only"
            )
        if unknown := set(thresholds or {}) - set(own):
            raise UsageError(f"--threshold {min(unknown)}=...: {path} has levels 0 to {len(own) - 1}")
        own |= thresholds or {}
        levels = prune(levels, header.score_column, own)
        mode = Mode.PYRAMID
    run = str(mode)
    if mode is Mode.PYRAMID:
        run += ", thresholds " + ", ".join(f"{n}={value:g}" for n, value in own.items())
    return ScoreMap(
        slide=header.slide.name,
        quickhash=header.slide.quickhash,
        l0_size=header.slide.l0_size,
        run=run,
        level_sha256=header.model.level_sha256,
        score=project_scores(levels, rule, header.score_column),
    )


def _read_windows(file: ResultFile, path: Path, stride: int | None) -> ScoreMap:
    """The map of a result with strides, or of one at a coarser stride."""
    header, mode = read_header(file), read_mode(file)
    dense, strides = read_dense_map(file), strides_of(header)
    kind = name_of_map(strides, mode)
    if stride is not None:
        if mode is Mode.PYRAMID or len(strides) > 1:
            raise UsageError(f"--stride {stride}: {path} has not looked everywhere at one stride: it is of {kind}")
        kind = name_of_map((stride,), mode)
        dense = coarser_maps(dense, (stride,))[kind]
    score = dense.score
    if mode is Mode.PYRAMID:
        score = _with_pruned(file, dense)
        kind += ", thresholds " + ", ".join(f"{n}={level.threshold:g}" for n, level in enumerate(header.levels))
    return ScoreMap(
        slide=header.slide.name,
        quickhash=header.slide.quickhash,
        l0_size=header.slide.l0_size,
        run=kind,
        level_sha256=header.model.level_sha256,
        score=score,
        cell=dense.cell / dense.window,
    )


def _with_pruned(file: ResultFile, dense: DenseMap) -> npt.NDArray[np.float32]:
    """A map in which tiles that a pyramidal run stopped at lend their score to the cells with tissue in them."""
    header = read_header(file)
    mask = read_mask_rows(file, 0, header.mask_shape[0])
    side = dense.l0_cell_side() / header.mask_downsample
    middles = [
        np.minimum(((np.arange(n) + 0.5) * side).astype(np.int64), extent - 1)
        for n, extent in zip(dense.score.shape, mask.shape, strict=True)
    ]
    tissue = mask[np.ix_(*middles)]
    score = dense.score.copy()
    for n in range(len(header.levels)):
        if header.levels[n].block > 1 or header.levels[n].network in (0, None):
            continue
        times = round(header.grid.l0_side(n) / dense.l0_cell_side())
        for rows in iter_rows(file, n):
            stopped = rows.decision == Decision.STOP
            lent = rows.probability[stopped, header.score_column]
            for (col, row), value in zip(rows.index[stopped].tolist(), lent.tolist(), strict=True):
                under = np.s_[row * times : (row + 1) * times, col * times : (col + 1) * times]
                score[under][tissue[under] & np.isnan(score[under])] = value
    return score


def prune(levels: Mapping[int, TreeLevel], column: int, thresholds: Mapping[int, float]) -> dict[int, TreeLevel]:
    """Keep of an exhaustive run the tiles that a pyramidal run of these thresholds analyses.

    Parameters
    ----------
    levels
        Analysed tiles by level.
    column
        Class of the score.
    thresholds
        Threshold of each level.
    """
    numbers = sorted(levels)
    decisions = [decide(levels[n].probability, column, thresholds[n]) for n in numbers]
    kept = reached(decisions[1:], [levels[n].parent for n in numbers])
    return {
        n: replace(
            levels[n],
            index=levels[n].index[mask],
            probability=levels[n].probability[mask],
            decision=decision[mask],
            parent=levels[n].parent[mask],
        )
        for n, decision, mask in zip(numbers, decisions, kept, strict=True)
    }


def project_scores(levels: Mapping[int, TreeLevel], rule: TileRule, column: int) -> npt.NDArray[np.float32]:
    """Give every level-0 tile the score of the last look at it (Reinbigler et al. 2025, section 4.4).

    Parameters
    ----------
    levels
        Analysed tiles by level.
    rule
        Which tiles exist.
    column
        Class of the score.

    Returns
    -------
    numpy.ndarray
        float32 (rows, cols) of level 0; see `ScoreMap.score`.

    Raises
    ------
    ValueError
        When a tile lies outside the slide.
    """
    score = paint_last_look(rule.grid, lambda n: [levels[n]], column).score
    tiles = rule.reference_tiles()
    shown = np.full(score.shape, np.nan, np.float32)
    shown[tiles["row"], tiles["col"]] = score[tiles["row"], tiles["col"]]
    return shown
