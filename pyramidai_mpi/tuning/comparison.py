"""All strategies beside each other, on the slides they were chosen on and on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.tuning.optimal import OptimalSearch
from pyramidai_mpi.tuning.strategies import BetaTable, Choice, choose_empirical, choose_metric_based, tabulate_betas

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyramidai_mpi.tuning.cohort import Cohort, Measurement

STRATEGIES = ("metric-based", "empirical", "optimal")
OBJECTIVES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.875, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 1.0)
"""Of the curves."""


@dataclass(frozen=True)
class Attempt:
    """What one strategy makes of one objective.

    Attributes
    ----------
    strategy, objective
        Name of the strategy, and the retention asked for.
    choice
        None when the objective is out of its reach.
    reason
        Why it is out of reach.
    tested
        The same thresholds on other slides, if there are any.
    """

    strategy: str
    objective: float
    choice: Choice | None
    reason: str = ""
    tested: Measurement | None = None


class Comparison:
    """Strategies on one cohort; what they share is computed once.

    Parameters
    ----------
    cohort
        Slides to choose thresholds on.
    test
        Slides to measure the chosen thresholds on; None for none.
    """

    def __init__(self, cohort: Cohort, test: Cohort | None = None) -> None:
        self.cohort, self.test = cohort, test
        self._search = OptimalSearch(cohort)
        self.why_no_table = ""
        self.table: BetaTable | None = None
        try:
            self.table = tabulate_betas(cohort)
        except InputError as error:  # lesions too small for any tile of a level: the optimum does not care
            self.why_no_table = str(error)

    def attempt(self, strategy: str, objective: float) -> Attempt:
        """Thresholds of one strategy (of `STRATEGIES`) for one objective, in (0, 1]."""
        try:
            choice = self._ways()[strategy](objective)
        except InputError as error:
            return Attempt(strategy, objective, None, str(error))
        return Attempt(strategy, objective, choice, "", self.on_test(choice.thresholds))

    def attempts(self, objective: float) -> tuple[Attempt, ...]:
        """All strategies."""
        return tuple(self.attempt(strategy, objective) for strategy in STRATEGIES)

    def curves(self, objectives: Sequence[float] = OBJECTIVES) -> dict[str, tuple[Attempt, ...]]:
        """Each strategy over all objectives, those out of reach left out."""
        every = {name: [self.attempt(name, objective) for objective in objectives] for name in STRATEGIES}
        return {name: tuple(one for one in attempts if one.choice) for name, attempts in every.items()}

    def on_test(self, thresholds: Sequence[float]) -> Measurement | None:
        """Thresholds on the other slides."""
        return self.test.measure(thresholds) if self.test else None

    def _ways(self) -> dict[str, Callable[[float], Choice]]:
        return {
            "metric-based": lambda objective: choose_metric_based(self.cohort, self._betas(), objective),
            "empirical": lambda objective: choose_empirical(self._betas(), objective),
            "optimal": self._search.choose,
        }

    def _betas(self) -> BetaTable:
        if self.table is None:
            raise InputError(self.why_no_table)
        return self.table
