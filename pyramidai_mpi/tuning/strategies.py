"""The paper's two ways from slides to thresholds (Reinbigler et al. 2025, section 3.2 and figures 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.tuning.fbeta import BETAS, best_thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.tuning.cohort import Cohort, Measurement

TOLERANCE = 1e-9
"""A retention this little below an objective reaches it: 0.9 is no binary number."""


@dataclass(frozen=True)
class BetaRow:
    """One beta at one level, or at all.

    Attributes
    ----------
    level
        The level whose threshold it sets while all others pass through; None: all levels at once.
    beta
        Weight of recall in the F-score.
    threshold
        The level's threshold; NaN for all levels.
    measured
        On the training slides.
    """

    level: int | None
    beta: float
    threshold: float
    measured: Measurement


@dataclass(frozen=True)
class BetaTable:
    """What each beta does on the training slides.

    Attributes
    ----------
    isolated
        For each level from 1 up, a row per beta.
    joint
        A row per beta that sets all levels at once.
    """

    isolated: tuple[tuple[BetaRow, ...], ...]
    joint: tuple[BetaRow, ...]


@dataclass(frozen=True)
class Choice:
    """Thresholds, and how they were found.

    Attributes
    ----------
    strategy
        Name of the strategy.
    objective
        The retention asked for.
    measured
        Thresholds and their consequences on the training slides.
    betas
        Beta of each level from 1 up, where the strategy has such.
    """

    strategy: str
    objective: float
    measured: Measurement
    betas: tuple[float, ...] = ()

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Of each level, level 0 first."""
        return self.measured.thresholds


def tabulate_betas(cohort: Cohort, betas: Sequence[float] = BETAS) -> BetaTable:
    """F_beta thresholds of every level over all tiles of all slides, and what they do alone and together.

    Raises
    ------
    InputError
        When a level has no positive tile.
    """
    by_level = []
    for n in range(1, cohort.n_levels):
        levels = [tree.levels[n] for tree in cohort.trees]
        score = np.concatenate([level.score for level in levels])
        positive = np.concatenate([level.positive for level in levels])
        try:
            by_level.append(best_thresholds(score, positive, betas))
        except InputError as error:
            raise InputError(f"level {n}: {error}; give slides with larger lesions, or --strategy optimal") from error
    through = cohort.pass_through()
    isolated = tuple(
        tuple(
            BetaRow(n, beta, found[k], cohort.measure((*through[:n], found[k], *through[n + 1 :])))
            for k, beta in enumerate(betas)
        )
        for n, found in enumerate(by_level, start=1)
    )
    joint = tuple(
        BetaRow(None, beta, float("nan"), cohort.measure((through[0], *(found[k] for found in by_level))))
        for k, beta in enumerate(betas)
    )
    return BetaTable(isolated, joint)


def choose_metric_based(cohort: Cohort, table: BetaTable, objective: float) -> Choice:
    """Per level the smallest beta that alone keeps objective^(1/n) of the positives, n levels having a threshold.

    Raises
    ------
    InputError
        When no beta does.
    """
    share = objective ** (1 / max(len(table.isolated), 1))
    rows = [_first_keeping(level, share, f"level {level[0].level} alone") for level in table.isolated]
    thresholds = (cohort.l0_threshold, *(row.threshold for row in rows))
    return Choice("metric-based", objective, cohort.measure(thresholds), tuple(row.beta for row in rows))


def choose_empirical(table: BetaTable, objective: float) -> Choice:
    """The smallest beta that, at all levels at once, keeps the objective.

    Raises
    ------
    InputError
        When no beta does.
    """
    row = _first_keeping(table.joint, objective, "all levels")
    return Choice("empirical", objective, row.measured, (row.beta,) * len(table.isolated))


def _first_keeping(rows: Sequence[BetaRow], share: float, where: str) -> BetaRow:
    for row in rows:
        if row.measured.retention >= share - TOLERANCE:
            return row
    best = max(rows, key=lambda row: row.measured.retention)
    raise InputError(
        f"{where}: no beta from {rows[0].beta:g} to {rows[-1].beta:g} keeps {share:.4f} of the positives "
        f"(beta {best.beta:g} keeps {best.measured.retention:.4f}); use --strategy optimal, --from-below, or a lower "
        "objective"
    )
