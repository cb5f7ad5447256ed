"""The end of a run in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.types import Decision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.run.run import RunReport


def summary_lines(settings: RunSettings, report: RunReport) -> Iterator[str]:
    """Tiles per level, what the pyramid saved, time, balance, and where the result lies."""
    result, tree = report.result, report.result.tree
    zoomed, unreadable = tree.count(Decision.ZOOM), tree.count(Decision.UNREADABLE)
    for n in sorted(tree.levels, reverse=True):
        outcome = "zoomed into" if n else "positive"
        failed = f", {unreadable[n]} unreadable" if unreadable[n] else ""
        yield (
            f"level {n} ({result.levels[n].spacing_um_px:.3g} µm/px): {len(tree.levels[n])} tiles, "
            f"{zoomed[n]} {outcome}{failed}"
        )
    if tree.n_tiles:
        saved = result.n_reference_tiles - len(tree.levels[0])
        yield (
            f"{tree.n_tiles} tiles analysed, {result.n_reference_tiles} in a run without pyramid "
            f"(speedup {report.speedup:.2f} in tiles; {saved} level-0 tiles not read)"
        )
    yield f"{report.wall_s:.1f} s on {len(result.execution.ranks)} ranks, busiest/ideal {report.balance:.2f}"
    yield f"result: {settings.output.path}"
