"""The paper's figures 3, 4 and 5 for one's own slides (Reinbigler et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.figures import Figure, rc_context
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

    from pyramidai_mpi.tuning.cohort import Measurement
    from pyramidai_mpi.tuning.comparison import Attempt
    from pyramidai_mpi.tuning.strategies import BetaTable

_COLOURS = {"metric-based": "#0072b2", "empirical": "#d55e00", "optimal": "#009e73"}
"""Told apart with the common colour-vision deficiencies (Okabe and Ito)."""

NAMES = tuple(f"{name}.{ending}" for name in ("betas", "objectives", "tradeoff") for ending in ("png", "svg"))
"""Files that are written; `betas` only where there are F-scores."""


def draw_all(
    folder: Path, table: BetaTable | None, curves: Mapping[str, tuple[Attempt, ...]], *, overwrite: bool = False
) -> list[Path]:
    """Write the figures into an existing folder and return their paths.

    Parameters
    ----------
    folder
        Where to.
    table
        Retention and speedup against beta; None leaves that figure out.
    curves
        For each strategy its attempts in the order of their objectives.
    overwrite
        Replace existing files.

    Raises
    ------
    OutputExistsError, StorageError
        When a file is in the way or cannot be written.
    """
    figures = {"objectives": draw_objectives(curves), "tradeoff": draw_tradeoff(curves)}
    if table is not None:
        figures["betas"] = draw_betas(table)
    written = []
    for path in (folder / name for name in NAMES):
        if path.stem in figures:
            _save(figures[path.stem], path, overwrite=overwrite)
            written.append(path)
    return written


def _save(figure: Figure, path: Path, *, overwrite: bool) -> None:
    # no date and no random names: equal figures are equal files
    with placed(path, overwrite=overwrite) as temporary, rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(
            temporary,
            format=path.suffix[1:],
            dpi=150,
            metadata={"Date": None} if path.suffix == ".svg" else {"Software": None},
        )


def draw_betas(table: BetaTable) -> Figure:
    """Retention and speedup against beta, one panel a level, all other levels passing through (figure 3)."""
    figure, panels = _canvas(len(table.isolated))
    for panel, rows in zip(panels, table.isolated, strict=True):
        betas = [row.beta for row in rows]
        panel.plot(betas, [row.measured.retention for row in rows], "o-", color="#0072b2", label="retention")
        panel.set(title=f"level {rows[0].level} alone", xlabel="beta", ylabel="positive retention rate", ylim=(0, 1.03))
        right = panel.twinx()
        right.plot(betas, [row.measured.speedup for row in rows], "s--", color="#d55e00", label="speedup")
        right.set(ylabel="speedup in tiles", ylim=(0, None))
        handles = [*panel.get_lines(), *right.get_lines()]
        panel.legend(handles, [str(line.get_label()) for line in handles], loc="lower right")
    return figure


def draw_objectives(curves: Mapping[str, tuple[Attempt, ...]]) -> Figure:
    """Retention measured against retention asked for (figure 4): dashed on test slides, where there are any."""
    figure, (panel,) = _canvas(1)
    for name, attempts in curves.items():
        for tested in (False, True):
            points = [(a.objective, m.retention) for a in attempts if (m := _measured(a, tested=tested))]
            _line(panel, points, name, tested=tested)
    panel.axline((1, 1), slope=1, color="grey", linewidth=0.8)
    panel.set(xlabel="objective", ylabel="positive retention rate")
    panel.legend()
    return figure


def draw_tradeoff(curves: Mapping[str, tuple[Attempt, ...]]) -> Figure:
    """Speedup against retention (figure 5): dashed on test slides, where there are any."""
    figure, (panel,) = _canvas(1)
    for name, attempts in curves.items():
        for tested in (False, True):
            points = [(m.retention, m.speedup) for a in attempts if (m := _measured(a, tested=tested))]
            _line(panel, points, name, tested=tested)
    panel.set(xlabel="positive retention rate (mean of slides)", ylabel="speedup in tiles (mean of slides)")
    panel.set_ylim(bottom=0)
    panel.legend()
    return figure


def _measured(attempt: Attempt, *, tested: bool) -> Measurement | None:
    if tested:
        return attempt.tested
    return attempt.choice.measured if attempt.choice else None


def _line(panel: Axes, points: list[tuple[float, float]], name: str, *, tested: bool) -> None:
    if points:
        across, up = zip(*points, strict=True)
        style = "s--" if tested else "o-"
        panel.plot(across, up, style, color=_COLOURS[name], markersize=4, label=f"{name}{', test' if tested else ''}")


def _canvas(n_panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5.2 * n_panels, 3.8), layout="constrained")
    panels = [figure.add_subplot(1, n_panels, k + 1) for k in range(n_panels)]
    for panel in panels:
        panel.grid(alpha=0.3)
    return figure, panels
