"""Curves of a study: the busiest worker's tiles (the paper's Fig. 6) and the seconds, over the number of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.simulate.report import dealings_in
from pyramidai_mpi.simulate.study import Balancing, Row
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIXES = (".png", ".svg")

_STYLES = {
    Balancing.NONE: ("tab:red", "-"),
    Balancing.EACH_LEVEL: ("tab:orange", "-"),
    Balancing.STEAL_ONE: ("tab:blue", "-"),
    Balancing.STEAL_HALF: ("tab:green", "-"),
    Balancing.ORACLE: ("black", "--"),
    Balancing.REFERENCE: ("gray", ":"),
}


def plot_targets(prefix: Path) -> list[Path]:
    """The files that `write_plots` writes."""
    return [prefix.with_name(prefix.name + suffix) for suffix in SUFFIXES]


def write_plots(rows: Sequence[Row], prefix: Path, *, overwrite: bool) -> list[Path]:
    """Draw a column for each dealing, as PNG and SVG.

    Parameters
    ----------
    rows
        Rows of a study.
    prefix
        Names of the files without their endings.
    overwrite
        Replace files of those names.

    Raises
    ------
    OutputExistsError, StorageError
        See `store.files.placing`.
    """
    from pyramidai_mpi.base.figures import Figure, rc_context

    targets = plot_targets(prefix)
    dealings = dealings_in(rows)
    figure = Figure(figsize=(1 + 3.6 * len(dealings), 6.5), layout="constrained")
    axes = figure.subplots(2, len(dealings), squeeze=False, sharex=True, sharey="row")
    ticks: list[int] = []
    for workers in sorted({row.workers for row in rows}):
        if not ticks or workers >= 1.2 * ticks[-1]:  # no room for the number otherwise
            ticks.append(workers)
    for column, dealing in enumerate(dealings):
        for balancing, (colour, line) in _STYLES.items():
            curve = sorted(
                (row.workers, row.busiest_tiles, row.makespan_s)
                for row in rows
                if row.balancing is balancing and row.dealing in (dealing, None)
            )
            if curve:
                numbers, tiles, seconds = zip(*curve, strict=True)
                marker = "." if line == "-" else None
                axes[0, column].plot(numbers, tiles, line, color=colour, marker=marker, label=str(balancing))
                axes[1, column].plot(numbers, seconds, line, color=colour, marker=marker)
        axes[0, column].set_title(str(dealing or ""))
        axes[1, column].set_xlabel("workers")
    for panel in axes.flat:
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(ticks, [str(n) for n in ticks], rotation=90 if len(ticks) > 8 else 0)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    axes[0, 0].set_ylabel("tiles of the busiest worker")
    axes[1, 0].set_ylabel("seconds until all is done")
    axes[0, 0].legend(fontsize="small")
    for target in targets:
        # no date and no random names: equal figures are equal files
        metadata = {"Date": None} if target.suffix == ".svg" else {"Software": None}
        with placed(target, overwrite=overwrite) as temporary, rc_context({"svg.hashsalt": "simulate"}):
            figure.savefig(temporary, format=target.suffix[1:], dpi=150, metadata=metadata)
    return targets
