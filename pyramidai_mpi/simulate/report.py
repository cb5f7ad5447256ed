"""A study and a plan in words: tables for people, JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyramidai_mpi.simulate.dealing import Dealing
    from pyramidai_mpi.simulate.planning import Plan
    from pyramidai_mpi.simulate.study import Row, Setting


def in_words(seconds: float) -> str:
    """A time as people say it: seconds, minutes, or hours, in four digits or so."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"


def dealings_in(rows: Sequence[Row]) -> list[Dealing | None]:
    """The dealings of a study in its order; None alone when nothing in it was dealt."""
    found: list[Dealing | None] = []
    for row in rows:
        if row.dealing is not None and row.dealing not in found:
            found.append(row.dealing)
    return found or [None]


def table_lines(rows: Sequence[Row]) -> Iterator[str]:
    """A table for each dealing: per number of workers the busiest one's tiles and the makespan of every balancing."""
    for dealing in dealings_in(rows):
        shown = [row for row in rows if row.dealing in (dealing, None)]
        names = list(dict.fromkeys(str(row.balancing) for row in shown))
        cells = {(row.workers, str(row.balancing)): row for row in shown}
        if dealing is not None:
            yield f"roots dealt {dealing}: tiles of the busiest worker, time"
        yield "workers" + "".join(f"{name:>22}" for name in names)
        for workers in sorted({row.workers for row in shown}):
            line = f"{workers:>7}"
            for name in names:
                row = cells.get((workers, name))
                tiles = "" if row is None else f"{round(row.busiest_tiles, 1):.10g}"
                line += f"{tiles:>11} {'' if row is None else in_words(row.makespan_s):>10}"
            yield line
        yield ""


def plan_lines(plan: Plan) -> Iterator[str]:
    """The answer, and what it was found from."""
    limit = in_words(plan.limit_s)
    if plan.at_least is None:
        yield f"no number of ranks allowed is done within {limit}: an even share or the longest way down takes longer"
        return
    if plan.answer is None:
        yield f"none of the numbers of ranks tried is done within {limit}"
    else:
        whole = plan.answer.makespan_s + plan.serial_s
        yield (
            f"{plan.answer.workers} ranks are done in {in_words(whole)} (limit {limit}), "
            f"efficiency {plan.answer.efficiency * plan.answer.makespan_s / whole:.3f}; "
            f"fewer than {plan.at_least} could not, however the work is shared"
        )
    yield "  ranks         time  efficiency  core-hours"
    for row in plan.tried:
        whole = row.makespan_s + plan.serial_s
        core_hours = row.workers * whole / 3600
        efficiency = row.efficiency * row.makespan_s / whole
        yield f"{row.workers:>7} {in_words(whole):>12} {efficiency:>11.3f} {core_hours:>11.4g}"


def as_json(rows: Sequence[Row], plan: Plan | None, setting: Setting) -> str:
    """All of it, in seconds and tiles."""
    return (
        json.dumps(
            {
                "setting": asdict(setting),
                "rows": [asdict(row) for row in rows],
                "plan": None if plan is None else asdict(plan),
            },
            indent=1,
        )
        + "\n"
    )
