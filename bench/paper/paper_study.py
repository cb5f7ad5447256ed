"""One cohort seen as the paper sees its slides: every strategy, measured on the half that chose and on the other."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from bench.paper.geometry_cohort import halve
from bench.paper.measured import Measured, measure, tiles_at_equal_retention
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.tuning.cohort import Cohort
from pyramidai_mpi.tuning.fbeta import BETAS
from pyramidai_mpi.tuning.optimal import OptimalSearch
from pyramidai_mpi.tuning.strategies import (
    BetaTable,
    Choice,
    choose_empirical,
    choose_metric_based,
    tabulate_betas,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyramidai_mpi.evaluation.bootstrap import Estimate
    from pyramidai_mpi.truth.labelled_tree import LabelledTree

OBJECTIVE = 0.90
OBJECTIVES = (0.70, 0.75, 0.80, 0.84, 0.87, 0.90, 0.92, 0.94, 0.96, 0.975, 0.99)
MORE_BETAS = (*BETAS, *np.unique(np.rint(1.2 ** np.arange(15, 50)).astype(int)).tolist())
"""Beyond the paper's 1 to 14, for cohorts where none of these keeps enough."""
METHODS = ("metric", "empirical", "optimal")


@dataclass(frozen=True)
class Study:
    """A cohort and what was chosen on it.

    Attributes
    ----------
    name
        Of the cohort.
    train, test
        Its halves.
    l0_threshold
        From which a level-0 tile counts as called positive.
    betas
        What each beta of the paper does on the training half.
    chosen
        By strategy (`METHODS`) at `OBJECTIVE`.
    more
        Thresholds to compare with: ``level 1`` and so on, that level alone at its metric-based threshold; ``beta 5``,
        that beta at all levels.
    paths
        By strategy, its choices at rising objectives, those that it can reach.
    """

    name: str
    train: tuple[LabelledTree, ...]
    test: tuple[LabelledTree, ...]
    l0_threshold: float
    betas: BetaTable
    chosen: dict[str, Choice]
    more: dict[str, tuple[float, ...]]
    paths: dict[str, tuple[Choice, ...]]

    def _thresholds(self) -> dict[str, tuple[float, ...]]:
        return {name: choice.thresholds for name, choice in self.chosen.items()} | self.more

    @cached_property
    def on_test(self) -> dict[str, Measured]:
        """Every choice on the half that did not choose it."""
        return {name: measure(self.test, thresholds) for name, thresholds in self._thresholds().items()}

    @cached_property
    def on_train(self) -> dict[str, Measured]:
        """Every choice on the half that chose it."""
        return {name: measure(self.train, thresholds) for name, thresholds in self._thresholds().items()}

    @cached_property
    def passed_through(self) -> Measured:
        """The test half with nothing pruned."""
        return measure(self.test, Cohort(self.test, self.l0_threshold).pass_through())

    def optimal_against(self, strategy: str) -> Estimate:
        """Tiles of ``optimal`` over those of another strategy on the test half, at the retention that one has there."""
        path = [measure(self.test, choice.thresholds) for choice in self.paths["optimal"]]
        return tiles_at_equal_retention(path, self.on_test[strategy])


def study_cohort(name: str, train: Sequence[LabelledTree], test: Sequence[LabelledTree], l0_threshold: float) -> Study:
    """Choose thresholds on `train` in every way."""
    cohort = Cohort(tuple(train), l0_threshold)
    betas = tabulate_betas(cohort)
    strategies = _strategies(cohort, betas)
    try:
        chosen = {method: strategies[method](OBJECTIVE) for method in METHODS}
    except InputError:  # no beta of the paper keeps enough
        strategies = _strategies(cohort, tabulate_betas(cohort, MORE_BETAS))
        chosen = {method: strategies[method](OBJECTIVE) for method in METHODS}
    metric = chosen["metric"]
    through = cohort.pass_through()
    more = {f"level {n}": (*through[:n], metric.thresholds[n], *through[n + 1 :]) for n in range(1, cohort.n_levels)}
    more["beta 5"] = next(row.measured.thresholds for row in betas.joint if row.beta == 5)
    return Study(
        name,
        cohort.trees,
        tuple(test),
        l0_threshold,
        betas,
        chosen,
        more,
        {method: tuple(_reachable(strategies[method])) for method in METHODS},
    )


def optimal_over_halvings(study: Study, n: int, seed: int = 0) -> dict[str, list[float]]:
    """`Study.optimal_against` the paper's strategies when the same slides are halved at random again and again."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {method: [] for method in METHODS if method != "optimal"}
    for _ in range(n):
        again = study_cohort(study.name, *halve(study.train + study.test, rng), study.l0_threshold)
        for method, ratios in found.items():
            ratios.append(again.optimal_against(method).value)
    return found


def _strategies(cohort: Cohort, betas: BetaTable) -> dict[str, Callable[[float], Choice]]:
    return {
        "metric": partial(choose_metric_based, cohort, betas),
        "empirical": partial(choose_empirical, betas),
        "optimal": OptimalSearch(cohort).choose,
    }


def _reachable(choose: Callable[[float], Choice]) -> Iterator[Choice]:
    for objective in OBJECTIVES:
        with contextlib.suppress(InputError):
            yield choose(objective)


def balanced_accuracies(trees: Sequence[LabelledTree], thresholds: Sequence[float]) -> list[float]:
    """For each level, the mean of the shares of positive and of negative tiles that are called right."""
    found = []
    for n, threshold in enumerate(thresholds):
        positive = np.concatenate([tree.levels[n].positive for tree in trees])
        passes = np.concatenate([tree.levels[n].passes(threshold) for tree in trees])
        found.append(float((passes[positive].mean() + (~passes[~positive]).mean()) / 2))
    return found
