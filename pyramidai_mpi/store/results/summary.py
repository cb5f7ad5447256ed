"""A slide's result in a line: what the table of a cohort says of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.pyramid.looked_at import warning_of
from pyramidai_mpi.pyramid.metrics import busiest_over_ideal
from pyramidai_mpi.pyramid.tissue import Areas
from pyramidai_mpi.store.results.reader import digest_in, open_result
from pyramidai_mpi.store.results.tables import (
    count_decisions,
    damage_is_named,
    iter_rows,
    read_execution,
    read_header,
    read_mask_rows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
        Level-0 tiles at or above the threshold.
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

    @property
    def is_unreadable(self) -> bool:
        """Whether there were tiles to look at, and none of them could be read."""
        return 0 < sum(self.tiles) == self.unreadable

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
        return cls(**(facts | {"tiles": tuple(facts["tiles"])}))


def account_of(result: Result, seconds: float) -> SlideAccount:
    """The account of a slide of a cohort that has just been finished."""
    tree, finest = result.tree, result.tree.levels[0]
    areas = Areas.measure(
        result.tissue.mask,
        result.tissue.downsample * result.slide.mpp,
        round(result.levels[0].patch_size_level0 / result.tissue.downsample),
        finest.index[finest.decision == Decision.ZOOM],
    )
    tree, unreadable = result.tree, result.tree.count(Decision.UNREADABLE)
    tiles = tuple(len(tree.levels[n]) for n in sorted(tree.levels))
    return SlideAccount(
        tiles=tiles,
        positives=tree.count(Decision.ZOOM)[0],
        unreadable=tree.n_failed,
        seconds=seconds,
        balance=None,
        digest=result.digest(),
        quickhash=result.slide.quickhash,
        tissue_mm2=areas.tissue,
        positive_mm2=areas.positive,
        warning=warning_of(tiles, [unreadable[n] for n in sorted(unreadable)]),
    )


def read_areas(file: ResultFile, header: Header) -> Areas:
    """Areas of tissue in an open result.

    Raises
    ------
    InputError
        When it is damaged.
    """
    positive = [rows.index[rows.decision == Decision.ZOOM] for rows in iter_rows(file, 0)]
    return Areas.measure(
        read_mask_rows(file, 0, header.mask_shape[0]),
        header.mask_downsample * header.slide.mpp,
        round(header.grid.l0_tile_side(0) / header.mask_downsample),
        np.concatenate([np.empty((0, 2), np.uint32), *positive]),
    )


def read_account(path: Path) -> SlideAccount:
    """The account of a result file, of a cohort or of a run of one slide.

    Raises
    ------
    InputError
        As `read_digest`.
    """
    with open_result(path) as file, damage_is_named(file):
        header, execution = read_header(file), read_execution(file)
        areas = read_areas(file, header)
        counts = [count_decisions(file, level) for level in range(len(header.levels))]
        return SlideAccount(
            tiles=header.n_tiles,
            positives=int(counts[0][Decision.ZOOM]),
            unreadable=header.n_tiles_failed,
            seconds=_seconds(execution.attributes),
            balance=_balance(execution),
            digest=digest_in(file),
            quickhash=header.slide.quickhash,
            tissue_mm2=areas.tissue,
            positive_mm2=areas.positive,
            warning=warning_of(header.n_tiles, [int(count[Decision.UNREADABLE]) for count in counts]),
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
