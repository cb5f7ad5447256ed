"""The paper's Figs. 3, 4 and 5, a column for each cohort."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from bench.figures import save_plot
from bench.paper.measured import measure
from bench.paper.paper_study import METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.paper.paper_study import Study

_COLOURS = dict(zip(METHODS, ("tab:blue", "tab:orange", "tab:green"), strict=True))
_PAPER = {"metric": (0.92, 2.34), "empirical": (0.90, 2.65)}


def draw_isolated(studies: Sequence[Study], prefix: Path) -> None:
    """Fig. 3: what each beta keeps and saves at one level alone, on the slides that choose."""
    levels = len(studies[0].betas.isolated)
    figure = Figure(figsize=(4 * len(studies), 3 * levels), layout="constrained")
    for column, study in enumerate(studies):
        for n, rows in enumerate(study.betas.isolated):
            axes = figure.add_subplot(levels, len(studies), n * len(studies) + column + 1)
            beta = [row.beta for row in rows]
            axes.plot(beta, [row.measured.retention for row in rows], ".-", color="tab:red", label="retention")
            axes.set(title=f"{study.name}, level {n + 1} alone", xlabel="beta", ylabel="retention", ylim=(0, 1.02))
            other = axes.twinx()
            other.plot(beta, [row.measured.speedup for row in rows], ".--", color="tab:blue", label="times fewer tiles")
            other.set_ylabel("times fewer tiles, mean of ratios")
            axes.grid(alpha=0.3)
            axes.legend(handles=[*axes.lines, *other.lines], fontsize="small")
    save_plot(figure, prefix, dpi=130)


def draw_objectives(studies: Sequence[Study], prefix: Path) -> None:
    """Fig. 4: retention asked for, and measured on the slides that choose and on the others."""
    figure = Figure(figsize=(4 * len(studies), 3.6), layout="constrained")
    for axes, study in zip(figure.subplots(1, len(studies), squeeze=False, sharey=True)[0], studies, strict=True):
        for method in METHODS:
            path = study.paths[method]
            asked = [choice.objective for choice in path]
            kept = [measure(study.test, choice.thresholds).retention.mean_of_ratios.value for choice in path]
            axes.plot(asked, kept, ".-", color=_COLOURS[method], label=f"{method}, test")
            axes.plot(
                asked, [choice.measured.retention for choice in path], ":", color=_COLOURS[method], label="on train"
            )
        axes.plot([0.7, 1], [0.7, 1], color="gray", linewidth=0.7)
        axes.set(title=study.name, xlabel="retention asked for", ylabel="measured")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save_plot(figure, prefix, dpi=130)


def draw_trade_off(studies: Sequence[Study], prefix: Path) -> None:
    """Fig. 5: retention against tiles saved on the slides that did not choose; the paper's two points as crosses."""
    figure = Figure(figsize=(4 * len(studies), 3.6), layout="constrained")
    for axes, study in zip(figure.subplots(1, len(studies), squeeze=False)[0], studies, strict=True):
        for method in METHODS:
            found = [measure(study.test, choice.thresholds) for choice in study.paths[method]]
            axes.plot(
                [one.speedup.mean_of_ratios.value for one in found],
                [one.retention.mean_of_ratios.value for one in found],
                ".-",
                color=_COLOURS[method],
                label=method,
            )
            if method in _PAPER:
                axes.plot(_PAPER[method][1], _PAPER[method][0], "x", color=_COLOURS[method], label=f"{method}, paper")
        axes.set(title=study.name, xlabel="times fewer tiles, mean of ratios", ylabel="retention on test")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save_plot(figure, prefix, dpi=130)
