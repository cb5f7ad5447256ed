"""Results beside their truth: the label of every analysed tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.pyramid.tissue import TissueMap, block_sums
from pyramidai_mpi.store.results.reader import open_result, read_levels, read_rule
from pyramidai_mpi.store.results.tables import read_header, read_level_seconds, read_mode
from pyramidai_mpi.truth.coverage import UNIT
from pyramidai_mpi.truth.labelled_tree import LabelledLevel, LabelledTree
from pyramidai_mpi.truth.truth import Truth, read_truth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.pyramid.tree import TreeLevel
    from pyramidai_mpi.truth.truth import TruthOptions

DEFAULT_MIN_SHARE = 0.5
"""A tile is positive when at least this share of its tissue is tumour."""

_LITTLE_TISSUE = 0.5


@dataclass(frozen=True)
class DecidedLevel(LabelledLevel):
    """A labelled level of a run of any mode, with what the run decided.

    Attributes
    ----------
    decision
        uint8 (N,), values of `types.Decision`.
    """

    decision: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledResult:
    """A result file beside its truth: all that tuning and evaluation need of it.

    Attributes
    ----------
    path
        The result file.
    slide, quickhash
        The slide's file name and quick hash.
    l0_size, mpp
        Width and height in level-0 pixels, and µm per level-0 pixel.
    mode
        Mode of the run.
    model_name, level_sha256
        The model, and the hashes of its networks, level 0 first.
    rule
        Which tiles exist: `rule.grid` is their geometry, `rule.tissue` the run's tissue mask.
    thresholds
        Thresholds of the run, level 0 first.
    levels
        The analysed tiles, level 0 first. A reference run has none above level 0.
    truth
        What the slide holds; `Truth.coverage` puts it on any grid.
    min_share
        Share of a tile's tissue that had to be tumour.
    notes
        What was repaired, clipped, left out or looks odd about the truth.
    level_seconds
        float64 (N,), working seconds of all ranks on each level; None when the file does not tell.
    """

    path: Path
    slide: str
    quickhash: str
    l0_size: tuple[int, int]
    mpp: float
    mode: Mode
    model_name: str
    level_sha256: tuple[str, ...]
    rule: TileRule
    thresholds: tuple[float, ...]
    levels: tuple[DecidedLevel, ...]
    truth: Truth
    min_share: float
    notes: tuple[str, ...]
    level_seconds: npt.NDArray[np.float64] | None

    @cached_property
    def reference_index(self) -> npt.NDArray[np.int64]:
        """The level-0 tiles of a reference run of this slide, int64 (M, 2): col, row, in row-major order."""
        tiles = self.rule.reference_tiles()
        return np.stack([tiles["col"], tiles["row"]], axis=1).astype(np.int64)

    def tree(self) -> LabelledTree:
        """Its tiles as thresholds are chosen on.

        Raises
        ------
        InputError
            When the run was not exhaustive.
        """
        if self.mode is not Mode.EXHAUSTIVE:
            raise InputError(
                f"{self.path}: is the result of a {self.mode} run, which has not looked at every tile; run the slide "
                "with --mode exhaustive"
            )
        grid = self.rule.grid
        return LabelledTree(self.slide, self.levels, tuple(grid.span(n) for n in range(grid.n_levels)))


def label_result(
    path: Path, truth: Path, *, min_share: float = DEFAULT_MIN_SHARE, options: TruthOptions | None = None
) -> LabelledTree:
    """Scores and labels of an exhaustive run; see `read_labelled`."""
    return read_labelled(path, truth, min_share=min_share, options=options).tree()


def read_labelled(
    path: Path, truth: Path, *, min_share: float = DEFAULT_MIN_SHARE, options: TruthOptions | None = None
) -> LabelledResult:
    """Read a result of any mode and label its tiles.

    Parameters
    ----------
    path
        Result file.
    truth
        Folder or file, see `truth.read_truth`.
    min_share
        Share of a tile's tissue, above 0 and at most 1, from which it is positive.
    options
        How the truth is read.

    Raises
    ------
    InputError
        When the result or its truth cannot be used, or the result is of a run with strides: its tiles are blocks of
        windows, and its levels are not numbered as the model's are.
    """
    with open_result(path) as file:
        header = read_header(file)
        if header.levels[0].cell is not None:
            raise InputError(
                f"{path}: is of a run with --stride, whose levels are not those of its model; give the result of a run "
                "without"
            )
        rule, tables = read_rule(file), read_levels(file)
        mode, level_seconds = read_mode(file), read_level_seconds(file)
    slide, mask = header.slide, rule.tissue.mask
    found = read_truth(truth, slide.name, slide.l0_size, options, slide.l0_bounds)
    covered = found.coverage((mask.shape[0], mask.shape[1]), header.mask_downsample)
    return LabelledResult(
        path=path,
        slide=slide.name,
        quickhash=slide.quickhash,
        l0_size=slide.l0_size,
        mpp=slide.mpp,
        mode=mode,
        model_name=header.model.name,
        level_sha256=header.model.level_sha256,
        rule=rule,
        thresholds=tuple(level.threshold for level in header.levels),
        levels=_label_tables(tables, header.score_column, rule.tissue, covered, min_share),
        truth=found,
        min_share=min_share,
        notes=(*found.notes, *doubts(mask, covered)),
        level_seconds=level_seconds,
    )


def label_levels(
    tissue: TissueMap, covered: npt.NDArray[np.integer], index: Sequence[npt.NDArray[np.integer]], min_share: float
) -> tuple[npt.NDArray[np.bool_], ...]:
    """Which tiles are positive: at least `min_share` of their tissue is tumour.

    Parameters
    ----------
    tissue
        Tissue of the slide.
    covered
        int (H, W), tumour in each mask pixel in parts of `coverage.UNIT`.
    index
        For each level (N, 2) integers: col, row.
    min_share
        Above 0 and at most 1.

    Returns
    -------
    tuple of numpy.ndarray
        For each level bool (N,). A tile without tissue is negative. Both areas are whole numbers, sums of the same
        mask pixels at every level: no tile's label depends on rounding.
    """
    if not 0 < min_share <= 1:
        raise ValueError(f"min_share is {min_share}, expected above 0 and at most 1")
    labels = []
    for n, (tiles, tumor) in enumerate(zip(index, tumor_of_tiles(tissue, covered), strict=False)):
        held, whole = tumor[tiles[:, 1], tiles[:, 0]], tissue.counts[n][tiles[:, 1], tiles[:, 0]]
        labels.append(np.asarray((whole > 0) & (held >= min_share * UNIT * whole)))
    return tuple(labels)


def tumor_of_tiles(tissue: TissueMap, covered: npt.NDArray[np.integer]) -> Iterator[npt.NDArray[np.int64]]:
    """Tumour in the tissue of every tile, level by level, level 0 first.

    Parameters
    ----------
    tissue, covered
        As of `label_levels`.

    Yields
    ------
    numpy.ndarray
        int64 (rows, cols), in parts of `coverage.UNIT` of a mask pixel; `tissue.counts` times `coverage.UNIT` is a tile
        that is all tumour.
    """
    tumor = np.where(tissue.mask, covered, 0).astype(np.int64)
    for n in range(tissue.grid.n_levels):
        block = tissue.grid.factor(n) if n else tissue.pixels_per_tile
        tumor = block_sums(tumor, block, tissue.grid.shape(n))
        yield tumor


def _label_tables(
    by_level: Mapping[int, TreeLevel],
    column: int,
    tissue: TissueMap,
    covered: npt.NDArray[np.integer],
    min_share: float,
) -> tuple[DecidedLevel, ...]:
    tables = [level for _, level in sorted(by_level.items())]
    labels = label_levels(tissue, covered, [table.index for table in tables], min_share)
    return tuple(
        DecidedLevel(
            index=table.index,
            # unreadable is unreadable, whatever single class came out finite
            score=np.where(table.decision == Decision.UNREADABLE, np.float32(np.nan), table.probability[:, column]),
            positive=positive,
            parent=table.parent,
            decision=table.decision,
        )
        for table, positive in zip(tables, labels, strict=True)
    )


def doubts(mask: npt.NDArray[np.bool_], covered: npt.NDArray[np.int32]) -> list[str]:
    """What looks odd, in words: a slide's outlines lie on its tissue, another slide's of the same size often do not."""
    total = int(covered.sum(dtype=np.int64))
    if not total:
        return []
    on_tissue = int(covered[mask].sum(dtype=np.int64)) / total
    if on_tissue >= _LITTLE_TISSUE:
        return []
    return [f"only {100 * on_tissue:.0f} % of the tumour area holds tissue; check that the truth is this slide's"]
