"""Faults of every kind in every kind of work, for hours, and whether anything is lost, changed, hung or left.

    python -m bench.faults.campaign FOLDER [--hours H | --trials N] [--seed 1] [--works slide,cohort,...] [--no-hosts]
    python -m bench.faults.campaign FOLDER --only TRIAL | --shrink TRIAL | --plan JSON | --table

A trial starts one kind of work (a slide, a cohort, patches, a dense map, explanations, three kinds of training), lets
two to five faults come, each in a start of its own that goes on with `--resume`, then lets it through to its end. Its
number and the seed decide all of it but what the machine does. Faults: SIGKILL of ranks and of mpirun; ranks suspended
for a while, or until they are killed; SIGTERM and SIGINT; a disk that is full, fails at the n-th call, becomes
read-only, or whose folder is renamed away; stale file handles; several runs for one output; over three hosts
(namespaces of this machine, which take root) one host killed, or off the network for a while. Surroundings: no hard
links, coarse times and silly renames as on NFS, clocks that jump, slow links.

After each start all that was done must be known, by results or journals, but for a batch of each rank; each result
that is there must have the digest of the undisturbed one; the exit code must be one that the README has for that;
nothing may be alive after a stated time. In the end all must be there, little done twice, and no other file left.

Each trial is a line of FOLDER/trials.jsonl; the same command goes on with the next one. Exit code 1 when anything was
wrong. `--shrink` prints the smallest plan that still fails, as a command.
"""

from __future__ import annotations

import json
import math
import shlex
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from bench.command_line import command_line
from bench.faults.campaign import records, works
from bench.faults.campaign.checks import NOT_JUDGED, Wrong
from bench.faults.campaign.hosts import HostsOnDemand, can_be_made
from bench.faults.campaign.plans import Choice, Plan, drawn
from bench.faults.campaign.shrinking import shrunk
from bench.faults.campaign.trial import Outcome, Trial, commit_of_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.command_line import Options


def main() -> None:
    """See the module."""
    parser = command_line(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hours", type=float)
    parser.add_argument("--trials", type=int, help="so many more")
    parser.add_argument("--works", default=",".join(works.KINDS), help="with commas between them")
    parser.add_argument("--no-hosts", action="store_true")
    parser.add_argument("--only", type=int, metavar="TRIAL")
    parser.add_argument("--shrink", type=int, metavar="TRIAL")
    parser.add_argument("--plan", type=Plan.from_json, metavar="JSON")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    names = options.works.split(",")
    if unknown := [name for name in names if name not in works.KINDS]:
        parser.error(f"--works {', '.join(unknown)}: expected of {', '.join(works.KINDS)}")
    options.folder = options.folder.absolute()
    (options.folder / "inputs").mkdir(parents=True, exist_ok=True)
    if options.table:
        print(records.table(records.kept(options.folder)))
        return
    choice = Choice(names, hosts=not options.no_hosts and can_be_made())
    hosts = HostsOnDemand()
    for number in (signal.SIGINT, signal.SIGTERM):  # also in the background: what was started is ended first
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(_carry_out(options, choice, hosts))
    finally:
        hosts.close()


def _carry_out(options: Options, choice: Choice, hosts: HostsOnDemand) -> int:
    inputs = options.folder / "inputs"

    def tried(plan: Plan) -> Outcome:
        return Trial(plan, inputs, hosts).carry_out()

    def plan_of(number: int) -> Plan:
        """As it was, whatever is drawn today."""
        lines = [one for one in records.kept(options.folder) if (one["seed"], one["trial"]) == (options.seed, number)]
        return Plan.from_json(json.dumps(lines[-1]["plan"])) if lines else drawn(options.seed, number, choice)

    if options.plan or options.only is not None:
        plan = options.plan or plan_of(options.only)
        outcome = tried(plan)
        _tell("a plan" if options.plan else f"trial {options.only}", plan, outcome)
        return int(bool(outcome.wrongs))
    if options.shrink is not None:
        plan = plan_of(options.shrink)
        least = shrunk(plan, lambda one: bool(tried(one).wrongs), fewest_slides=min(2, works.KINDS[plan.work].slides))
        words = ["python", "-m", "bench.faults.campaign", str(options.folder), "--plan", least.to_json()]
        print(shlex.join(words))
        return 1
    return int(not go_on(options, choice, tried))


def go_on(options: Options, choice: Choice, tried: Callable[[Plan], Outcome]) -> bool:
    """Carry out trials from the first that was not, as long or as many as is asked for; whether all went well."""
    commit, is_well = commit_of_tree(), True
    number = first = records.next_trial(records.kept(options.folder), options.seed)
    print(f"seed {options.seed}, from trial {first} on, commit {commit}, hosts: {choice.hosts}", flush=True)
    end = math.inf if options.hours is None else time.monotonic() + 3600 * options.hours
    last = math.inf if options.trials is None else first + options.trials
    while number < last and time.monotonic() < end:
        plan = drawn(options.seed, number, choice)
        try:
            outcome = tried(plan)
        except Exception:  # it is for hours
            outcome = Outcome([Wrong(NOT_JUDGED, traceback.format_exc())])
        records.append(options.folder, records.line_of(number, options.seed, plan, outcome, commit))
        _tell(f"trial {number}", plan, outcome)
        is_well &= not outcome.wrongs
        number += 1
    return is_well


def _tell(name: str, plan: Plan, outcome: Outcome) -> None:
    where = f"{plan.ranks} ranks{' on three hosts' if plan.over_hosts else ''}{f', {plan.habit}' if plan.habit else ''}"
    print(f"{name}: {plan.work}, {plan.slides} slides, {where}: {outcome.seconds:.1f} s", flush=True)
    for seen in outcome.starts:
        fault = "let through" if seen.fault is None else f"{seen.fault.kind} ({seen.fault.phase})"
        print(f"    {fault}, hit {seen.hit or '-'}: codes {list(seen.codes)}, {seen.done} done", flush=True)
    for wrong in outcome.wrongs:
        print(f"    WRONG: {wrong.what}: {wrong.text}", flush=True)
    if outcome.wrongs:
        for said in filter(None, outcome.said):
            print(f"--- said ---\n{said[-3000:]}", flush=True)
        print(f"    --plan {shlex.quote(plan.to_json())}", flush=True)


if __name__ == "__main__":
    main()
