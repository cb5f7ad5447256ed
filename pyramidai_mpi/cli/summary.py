"""The end of a run in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.types import LOOKED_AT, Decision, outcome_names
from pyramidai_mpi.run.auditing import audit_in_words
from pyramidai_mpi.run.shared_passes import error_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.run.report import RunReport


def summary_lines(settings: RunSettings, report: RunReport) -> Iterator[str]:
    """Tiles per level, what the pyramid saved, time, balance, and where the result lies."""
    result, tree = report.result, report.result.tree
    zoomed, unreadable = tree.count(Decision.ZOOM), tree.count(Decision.UNREADABLE)
    for n in sorted(tree.levels, reverse=True):
        outcome = outcome_names(n)[Decision.ZOOM]
        failed = f", {unreadable[n]} unreadable" if unreadable[n] else ""
        one, state = result.levels[n], tree.levels[n].state
        if state is not None:
            looked = np.isin(state, LOOKED_AT)
            own = int(looked[:, one.inner, one.inner].sum())
            around = f" and {int(looked.sum()) - own} around them" if looked.sum() > own else ""
            positive = f", {result.n_positive} positive" if n == 0 else ""
            blocks = f"{counted(len(tree.levels[n]), 'block')} of {one.block} x {one.block}"
            yield (
                f"level {n} ({one.spacing_um_px:.3g} µm/px, stride {one.cell}): {counted(own, 'window')} in {blocks}"
                f"{around}{positive}{failed}"
            )
            continue
        said = [counted(len(tree.levels[n]), "tile")]
        if result.model.classes:
            said.append(f"{zoomed[n]} {outcome}")
        if one.n_features and result.has_encoded:
            said.append(f"{one.n_features} features each ({one.feature_type})")
        yield f"level {n} ({one.spacing_um_px:.3g} µm/px): {', '.join(said)}{failed}"
    if result.prediction is not None:
        record = result.prediction.record
        yield f"slide: {record.words} ({record.method} of {counted(record.n_tiles, 'tile')})"
    elif tree.n_tiles and result.model.classes:
        yield _against_reference(report)
    if approximate := error_in_words(result.execution.attributes):
        yield approximate
    if audited := audit_in_words(result.execution.attributes, tree.n_tiles):
        yield audited
    ranks = counted(len(result.execution.ranks), "rank")
    yield f"{report.wall_s:.1f} s on {ranks}, busiest/ideal {report.balance:.2f}"
    part = settings.slide.part
    if part is None:
        yield f"result: {settings.output.path}"
    else:
        yield f"{part.words}: {settings.output.path}; join all of them with pyramidai merge"


def _against_reference(report: RunReport) -> str:
    """What the pyramid saved, or cost."""
    result, (times, words) = report.result, report.against_reference
    if result.levels[0].cell is not None:
        looked, everywhere = result.tree.n_windows, result.n_reference_tiles
        if looked == everywhere:
            return f"{counted(looked, 'window')} looked at, all there are at that stride"
        return (
            f"{counted(looked, 'window')} looked at, {everywhere} at the finest stride everywhere: {times:.2f} times "
            f"{words.replace('tiles', 'windows')}"
        )
    unread = result.n_reference_tiles - len(result.tree.levels[0])
    if unread > 0:
        finest = f"{counted(unread, 'level-0 tile')} not read"
    else:
        finest = "no level-0 tile saved" if unread == 0 else f"{counted(-unread, 'level-0 tile')} more than that"
    return (
        f"{counted(result.tree.n_tiles, 'tile')} analysed, {result.n_reference_tiles} in a run without pyramid: "
        f"{times:.2f} times {words} ({finest})"
    )
