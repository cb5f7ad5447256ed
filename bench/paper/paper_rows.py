"""The paper's figures, row by row, and how each is found on a cohort of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.paper.busiest import read_ordering, simulate_loads
from bench.paper.measured import both, short
from bench.paper.paper_study import METHODS, balanced_accuracies, optimal_over_halvings
from bench.paper.phase_times import PAPER_SECONDS
from bench.paper.slide_classes import classify_slides
from pyramidai_mpi.simulate.dealing import Dealing
from pyramidai_mpi.simulate.study import Balancing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.paper.paper_study import Study
    from bench.paper.phase_times import RunSeconds
    from pyramidai_mpi.simulate.study import Row
    from pyramidai_mpi.truth.labelled_tree import LabelledTree


@dataclass(frozen=True)
class PaperRow:
    """One figure of the paper.

    Attributes
    ----------
    what
        Its name.
    paper
        The paper's value; a dash where it has none.
    ours
        Finds it on a cohort.
    differs
        What differs in kind.
    """

    what: str
    paper: str
    ours: Callable[[Study], str]
    differs: str = ""


def hours(seconds: float) -> str:
    """``1 h 19 min``, ``4.9 min``, ``7.1 s``."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def _betas(name: str) -> Callable[[Study], str]:
    return lambda study: ", ".join(f"{beta:g}" for beta in dict.fromkeys(study.chosen[name].betas))


def _retention(name: str) -> Callable[[Study], str]:
    return lambda study: short(study.on_test[name].retention.mean_of_ratios)


def _speedup(name: str) -> Callable[[Study], str]:
    return lambda study: both(study.on_test[name].speedup)


def _train(study: Study) -> str:
    return ", ".join(f"{study.on_train[name].retention.mean_of_ratios.value:.3f}" for name in METHODS)


def _pass_through(study: Study) -> str:
    tiles = study.passed_through
    ratio = tiles.tiles / tiles.reference
    return f"{tiles.tiles.sum() / tiles.reference.sum():.4f} pooled, {ratio.max():.4f} at most"


def _accuracies(study: Study) -> str:
    found = balanced_accuracies(study.train + study.test, [0.5] * study.test[0].n_levels)
    return " / ".join(f"{value:.3f}" for value in found)


def _classes(study: Study) -> str:
    cells = []
    for name in (None, "empirical", "metric"):
        thresholds = None if name is None else study.chosen[name].thresholds
        figures = classify_slides(study.train, study.test, thresholds)
        cells.append(f"{figures.accuracy:.2f}")
    return " / ".join(cells)


def _halvings(n: int) -> Callable[[Study], str]:
    def cell(study: Study) -> str:
        found = optimal_over_halvings(study, n)
        return ", ".join(
            f"{np.nanmean(ratios):.3f} (deviation {np.nanstd(ratios):.3f}) of {method}"
            for method, ratios in found.items()
        )

    return cell


def _against(study: Study) -> str:
    return ", ".join(f"{short(study.optimal_against(name))} of {name}" for name in ("metric", "empirical"))


def seconds_a_slide(study: Study, seconds: RunSeconds) -> dict[str, np.ndarray]:
    """Estimated seconds of each test slide by strategy, `reference` first; float64 (S,)."""
    reference = study.on_test["metric"].reference[:, None] * np.eye(1, study.test[0].n_levels, dtype=int)
    found = {"reference": seconds.of(reference)}
    return found | {name: seconds.of(study.on_test[name].analysed) for name in METHODS}


def _seconds(name: str, seconds: RunSeconds) -> Callable[[Study], str]:
    def cell(study: Study) -> str:
        found = seconds_a_slide(study, seconds)[name]
        return f"{hours(float(found.mean()))}, deviation {hours(float(found.std()))}"

    return cell


def _seconds_ratio(name: str, seconds: RunSeconds) -> Callable[[Study], str]:
    def cell(study: Study) -> str:
        found = seconds_a_slide(study, seconds)
        return both(study.on_test[name].speedup_of(found[name], found["reference"]))

    return cell


def three_slides(trees: Sequence[LabelledTree]) -> list[LabelledTree]:
    """Of the half of the slides nearest to the median size: most tumour, median of those with any, none."""
    size = np.array([tree.n_reference_tiles for tree in trees])
    near = np.argsort(np.abs(size - np.median(size)), kind="stable")[: max(len(trees) // 2, 3)]
    by_tumor = sorted((trees[k] for k in near), key=lambda tree: int(tree.levels[0].positive.sum()))
    with_any = [tree for tree in by_tumor if tree.levels[0].positive.any()]
    return [with_any[-1], with_any[len(with_any) // 2], by_tumor[0]]


class Loads:
    """Fig. 6 and 7: simulated workers on three test slides of each cohort, simulated once."""

    def __init__(self, workers: Sequence[int]) -> None:
        self._workers = workers
        self._rows: dict[str, list[Row]] = {}

    def rows(self, study: Study) -> list[Row]:
        """As the paper's three: large tumours, small ones, none; all of about the median size."""
        if study.name not in self._rows:
            chosen = three_slides(study.test)
            thresholds = study.chosen["empirical"].thresholds
            self._rows[study.name] = simulate_loads(chosen, thresholds, self._workers)
        return self._rows[study.name]

    def block_worst(self, study: Study) -> str:
        """At how many numbers of workers block dealing is worst."""
        found = read_ordering(self.rows(study))
        return f"at {100 * found.block_worst:.0f} % of the numbers of workers up to {found.most_workers}"

    def excess(self, study: Study) -> str:
        """Tiles above an equal share, by dealing."""
        found = read_ordering(self.rows(study)).excess
        return "; ".join(f"{how}: {100 * found[how][0]:.0f} %, at most {100 * found[how][1]:.0f} %" for how in found)

    def stealing(self, study: Study) -> str:
        """The same with stealing."""
        return f"at most {100 * read_ordering(self.rows(study)).stealing_excess:.1f} % above"

    def twelve(self, study: Study) -> str:
        """Mean time of a slide on 1 and on 12 workers."""
        found = {
            row.workers: row.makespan_s / 3
            for row in self.rows(study)
            if (row.balancing, row.dealing) == (Balancing.STEAL_ONE, Dealing.ROUND_ROBIN)
        }
        return f"{hours(found[1])} -> {hours(found[12])}"


def paper_rows(loads: Loads, ours: RunSeconds, halvings: int) -> list[PaperRow]:
    """Every figure; `ours` are the seconds of the phases on this machine, cohorts are halved anew `halvings` times."""
    paper = PAPER_SECONDS
    slides = "the paper's test slides are CAMELYON16's own"
    return [
        PaperRow("accuracy at levels 0 / 1 / 2, balanced", "0.948 / 0.958 / 0.917", _accuracies,
                 "geometry: given, as drawn; pixels: another network, levels 1 and 2 trained to find any tumour"),
        PaperRow("metric-based 0.90: beta of levels 1, 2", "8, 9", _betas("metric"),
                 "beta weighs tiles, and these cohorts hold other shares of tumour"),
        PaperRow("... retention on test", "0.92", _retention("metric"), slides),
        PaperRow("... times fewer tiles, mean of ratios and ratio of means", "2.34 (which mean is not said)",
                 _speedup("metric"), "tissue is modelled (geometry) or small (pixels)"),
        PaperRow("level 1 alone, times fewer tiles", "2.02", _speedup("level 1"), "the other level passes all"),
        PaperRow("level 2 alone, times fewer tiles", "1.80", _speedup("level 2"), "the other level passes all"),
        PaperRow("empirical 0.90: beta", "8", _betas("empirical")),
        PaperRow("... retention on test", "0.90", _retention("empirical"), slides),
        PaperRow("... times fewer tiles, both means", "2.65", _speedup("empirical")),
        PaperRow("beta 5 at both levels: retention on test", "> 0.80", _retention("beta 5")),
        PaperRow("... times fewer tiles, both means", "5.63", _speedup("beta 5")),
        PaperRow("all passed through: tiles over reference", "S(2) = 1.33, for 3 levels 21/16 = 1.3125", _pass_through,
                 "tissue has borders: parents with fewer than four children"),
        PaperRow("slides classified right: reference / empirical / metric-based", "0.84 / 0.84 / 0.77", _classes,
                 "one half fits, the other is judged; noise of drawn scores is modelled"),
        PaperRow("reference run of a slide, at the paper's seconds a tile", "2 h 29 min", _seconds("reference", paper),
                 "geometry: the mean tissue comes from this very figure"),
        PaperRow("empirical", "1 h 11 min", _seconds("empirical", paper), "estimated from tiles, as in the paper"),
        PaperRow("metric-based", "1 h 19 min", _seconds("metric", paper), "estimated from tiles, as in the paper"),
        PaperRow("reference / empirical in seconds, both means", "2.10 (ratio of means)",
                 _seconds_ratio("empirical", paper)),
        PaperRow("reference / metric-based in seconds, both means", "1.89 (ratio of means)",
                 _seconds_ratio("metric", paper)),
        PaperRow("reference run of a slide, at our processor seconds", "-", _seconds("reference", ours),
                 "a small network; one core"),
        PaperRow("empirical, at our processor seconds", "-", _seconds("empirical", ours)),
        PaperRow("Fig. 6: block dealing is worst", "yes", loads.block_worst, "busiest worker's tiles, simulated"),
        PaperRow("Fig. 6: tiles above the ideal, no balancing: mean and most over workers", "round-robin most stable",
                 loads.excess),
        PaperRow("Fig. 6: stealing from 4 workers on", "near the ideal", loads.stealing, "one tile a steal"),
        PaperRow("1 -> 12 workers, a slide at the paper's seconds", "> 1 h -> about 15 min", loads.twelve,
                 "the paper: real machines, three images; here simulated"),
        PaperRow("optimal 0.90: retention on test", "-", _retention("optimal")),
        PaperRow("... times fewer tiles, both means", "-", _speedup("optimal")),
        PaperRow("retention on train: metric, empirical, optimal", ">= 0.90", _train),
        PaperRow("tiles of optimal at equal test retention", "-", _against, "1 is equal; pooled, by bootstrap"),
        PaperRow(f"... mean over {halvings} random halvings", "-", _halvings(halvings),
                 "slides that choose are drawn anew, too"),
    ]  # fmt: skip
