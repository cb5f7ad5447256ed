"""A slide's result in a line: what the table of a cohort says of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import Decision, WindowState
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.pyramid.looked_at import warning_of
from pyramidai_mpi.pyramid.metrics import busiest_over_ideal
from pyramidai_mpi.pyramid.tissue import Areas
from pyramidai_mpi.store.results.dense import areas_on_map, map_of, read_dense_map
from pyramidai_mpi.store.results.reader import open_result, stated_digest
from pyramidai_mpi.store.results.tables import (
    count_decisions,
    damage_is_named,
    iter_cells,
    iter_rows,
    read_execution,
    read_header,
    read_mask_rows,
)
from pyramidai_mpi.store.results.tissue import read_tissue_counts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.results.prediction import PredictionRecord
    from pyramidai_mpi.store.results.result import Execution, Result
    from pyramidai_mpi.store.results.tables import Header, ResultFile

_PHASES = ("tissue_s", "load_s", "analyse_s")


@dataclass(frozen=True)
class SlideAccount:
    """What there is to say of a finished slide.

    Attributes
    ----------
    tiles
        Analysed tiles of each level, level 0 first.
    positives
        Level-0 tiles, of blocks the windows that were looked at, at or above the threshold.
    unreadable
        Tiles of all levels.
    seconds
        Time from opening the slide to writing its file; None where the file does not say.
    balance
        Busiest rank's working time over the mean; None for a slide that shared its ranks with others.
    digest, quickhash
        Digest of the result, quick hash of the slide.
    tissue_mm2, positive_mm2
        Area of the tissue, and of the tissue in positive tiles of level 0.
    warning
        What was not looked at, see `pyramid.looked_at.warning_of`; empty for nothing.
    is_unreadable
        Whether there were tiles to look at, and none of them could be read.
    prediction
        What the model's aggregator says of the slide, a number for each of its classes; empty where it says nothing.
    """

    tiles: tuple[int, ...]
    positives: int
    unreadable: int
    seconds: float | None
    balance: float | None
    digest: str
    quickhash: str
    tissue_mm2: float
    positive_mm2: float
    warning: str = ""
    is_unreadable: bool = False
    prediction: tuple[float, ...] = ()

    def to_json(self) -> str:
        """As a JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SlideAccount:
        """Inverse of `to_json`.

        Raises
        ------
        ValueError, TypeError, KeyError
            When the text is none.
        """
        facts = json.loads(text)
        return cls(**(facts | {name: tuple(facts[name]) for name in ("tiles", "prediction")}))


def account_of(result: Result, seconds: float) -> SlideAccount:
    """The account of a slide of a cohort that has just been finished."""
    tree, unreadable = result.tree, result.tree.count(Decision.UNREADABLE)
    areas = _areas_of(result)
    tiles = tuple(len(tree.levels[n]) for n in sorted(tree.levels))
    return SlideAccount(
        tiles=tiles,
        positives=result.n_positive,
        unreadable=tree.n_failed,
        seconds=seconds,
        balance=None,
        digest=result.digest(),
        quickhash=result.slide.quickhash,
        tissue_mm2=areas.tissue,
        positive_mm2=areas.positive,
        warning=warning_of(tiles, [unreadable[n] for n in sorted(unreadable)]),
        is_unreadable=0 < sum(tiles) == sum(unreadable.values()),
        prediction=_prediction(None if result.prediction is None else result.prediction.record),
    )


def _prediction(record: PredictionRecord | None) -> tuple[float, ...]:
    return tuple(record.prediction.tolist()) if record is not None and record.n_tiles else ()


def _areas_of(result: Result) -> Areas:
    if result.levels[0].cell is not None:
        return areas_on_map(map_of(result), result.tissue.mask, result.tissue.downsample, result.slide.mpp)
    finest = result.tree.levels[0]
    pixels_per_tile = round(result.levels[0].patch_size_level0 / result.tissue.downsample)
    um_px = result.tissue.downsample * result.slide.mpp
    return Areas.measure(result.tissue.mask, um_px, pixels_per_tile, finest.index[finest.decision == Decision.ZOOM])


def read_areas(file: ResultFile, header: Header) -> Areas:
    """Areas of tissue in an open result.

    Raises
    ------
    InputError
        When it is damaged.
    """
    if header.levels[0].cell is not None:
        mask = read_mask_rows(file, 0, header.mask_shape[0])
        return areas_on_map(read_dense_map(file), mask, header.mask_downsample, header.slide.mpp)
    pixels_per_tile = round(header.grid.l0_side(0) / header.mask_downsample)
    rows, cols = (-(-extent // pixels_per_tile) for extent in header.mask_shape)
    is_positive = np.zeros((rows, cols), bool)
    for tiles in iter_rows(file, 0):
        col, row = tiles.index[tiles.decision == Decision.ZOOM].T
        is_positive[row, col] = True
    counts = read_tissue_counts(file, header, (cols, rows))
    return Areas.of_counts(counts, header.mask_downsample * header.slide.mpp, is_positive)


def read_account(path: Path, *, may_be_part: bool = False) -> SlideAccount:
    """The account of a result file, of a cohort or of a run of one slide; if that will do, of a part of one.

    Raises
    ------
    InputError
        As `read_digest`.
    """
    with open_result(path, may_be_part=may_be_part) as file, damage_is_named(file):
        header, execution = read_header(file), read_execution(file)
        areas = read_areas(file, header)
        counts = [count_decisions(file, level) for level in range(len(header.levels))]
        return SlideAccount(
            tiles=header.n_tiles,
            positives=_positives(file, header, counts[0]),
            unreadable=header.n_tiles_failed,
            seconds=_seconds(execution.attributes),
            balance=_balance(execution),
            digest=stated_digest(file, header),
            quickhash=header.slide.quickhash,
            tissue_mm2=areas.tissue,
            positive_mm2=areas.positive,
            warning=warning_of(header.n_tiles, [int(count[Decision.UNREADABLE]) for count in counts]),
            is_unreadable=0 < sum(header.n_tiles) == sum(int(count[Decision.UNREADABLE]) for count in counts),
            prediction=_prediction(header.prediction),
        )


def _positives(file: ResultFile, header: Header, decisions: npt.NDArray[np.int64]) -> int:
    if header.levels[0].block == 1:
        return int(decisions[Decision.ZOOM])
    inner, threshold = np.s_[:, header.levels[0].inner, header.levels[0].inner], header.levels[0].threshold
    return sum(
        int((passes(score[inner], threshold) & (state[inner] == WindowState.LOOKED)).sum())
        for _, score, state in iter_cells(file, 0)
    )


def _seconds(facts: Mapping[str, str | int | float]) -> float | None:
    if "cohort_slide_s" in facts:
        return float(facts["cohort_slide_s"])
    return sum(float(facts[name]) for name in _PHASES) if all(name in facts for name in _PHASES) else None


def _balance(execution: Execution) -> float | None:
    """Busiest rank over the mean; None for a slide that shared its ranks with others."""
    ranks = execution.ranks
    is_alone = "cohort_slide_s" not in execution.attributes and "busy_s" in (ranks.dtype.names or ())
    busy = ranks["busy_s"].tolist() if is_alone else []
    return busiest_over_ideal(busy) if sum(busy) > 0 else None
