"""What a campaign keeps: a line of JSON a trial, with which it goes on; and the table of all faults."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench.faults.campaign.checks import WRONGS
from bench.faults.campaign.faults import ENDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.faults.campaign.plans import Plan
    from bench.faults.campaign.trial import Outcome

NAME = "trials.jsonl"


def line_of(number: int, seed: int, plan: Plan, outcome: Outcome, commit: str) -> dict[str, Any]:
    """What is kept of a trial."""
    starts = [
        {
            "fault": "" if seen.fault is None else seen.fault.kind,
            "wanted": "" if seen.fault is None else seen.fault.phase,
            "hit": seen.hit,
            "codes": list(seen.codes),
            "done": seen.done,
            "known": [seen.known_before, seen.known_after],
        }
        for seen in outcome.starts
    ]
    return {
        "trial": number,
        "seed": seed,
        "commit": commit,
        "plan": json.loads(plan.to_json()),
        "seconds": round(outcome.seconds, 2),
        "starts": starts,
        "wrong": [[wrong.what, wrong.text] for wrong in outcome.wrongs],
        "said": [said[-4000:] for said in outcome.said if said],
    }


def append(folder: Path, line: dict[str, Any]) -> None:
    """Keep a trial; a line that a kill has torn before is ended first."""
    path = folder / NAME
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write(json.dumps(line).encode() + b"\n")


def kept(folder: Path) -> list[dict[str, Any]]:
    """All trials so far, without a torn line."""
    return list(_lines(folder / NAME))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # torn by a kill: the trial is done again
            continue


def next_trial(lines: Sequence[dict[str, Any]], seed: int) -> int:
    """The number of the trial to go on with."""
    return max((line["trial"] + 1 for line in lines if line["seed"] == seed), default=0)


def counted(lines: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Kind of work, phase and kind of fault of each fault that came."""
    found = []
    for line in lines:
        plan = line["plan"]
        name = f"{plan['work']}, three hosts" if plan["over_hosts"] else plan["work"]
        found += [
            (name, "finalising" if start["hit"] in ENDS else start["hit"], start["fault"])
            for start in line["starts"]
            if start["fault"] and start["hit"]
        ]
        if plan["habit"]:
            found.append((name, "throughout", plan["habit"]))
    return found


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Faults by work, phase and kind, and what was wrong, as Markdown."""
    found = counted(lines)
    wrongs = Counter((line["plan"]["work"], wrong[0]) for line in lines for wrong in line["wrong"])
    rows = []
    phases = ["starting", "opening", "resuming", "running", "finalising", "any", "throughout"]
    for work in sorted({name for name, _, _ in found}):
        here = Counter(phase for name, phase, _ in found if name == work)
        # wrongs are counted once, in the row of the work on one machine
        own = [wrongs[work, what] for what in WRONGS]
        rows.append([work, *(here[phase] for phase in phases), here.total(), *own])
    total = Counter(phase for _, phase, _ in found)
    all_wrong = Counter(what for line in lines for what, _ in line["wrong"])
    rows.append(["all", *(total[phase] for phase in phases), len(found), *(all_wrong[what] for what in WRONGS)])
    head = ["work", *phases[:5], "any moment", "throughout", "faults", *WRONGS]
    kinds = Counter(kind for _, _, kind in found)
    seconds = sum(line["seconds"] for line in lines)
    n_wrong = sum(bool(line["wrong"]) for line in lines)
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    )
    return "\n".join(
        [
            _markdown(head, rows),
            "",
            _markdown(["fault", "times"], [[kind, n] for kind, n in kinds.most_common()]),
            "",
            f"{len(lines)} trials, {n_wrong} with something wrong; {seconds / 3600:.2f} "
            f"hours, {seconds / max(len(found), 1):.1f} s a fault; {machine}; commits "
            f"{', '.join(dict.fromkeys(line['commit'] for line in lines))}",
        ]
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
