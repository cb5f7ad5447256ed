"""Kill ranks of runs, again and again, at any moment, and see whether anything is lost.

    python -m bench.faults.chaos [--command run|extract] [--pixels stored|raw|jpeg:Q|none] [--slides 1] [--kills 500]
        [--seed 1] [--ranks 3] [--kills-a-run 4]

One slide or several are analysed in small tiles that take their time, or patches are extracted from them. Again and
again a run is started or resumed, and one of its ranks or its launcher gets SIGKILL: while it opens a slide, while it
reads its journal back, while it analyses, while it puts a result together, writes it and removes the journal, or it is
rank 0. The phases are slowed down, so that kills hit all their steps (`bench.faults.slowed_ranks`). After some kills a
run is let through to its end, and its digests compared with those of an undisturbed run. After every kill there must be
no result of a slide or a right one, and results and journals must hold all that was analysed but for the batch that
each rank was at; and no start may do again what they hold.

Prints its seed; the same seed chooses the same victims, phases and delays. Exit code 1 when anything was wrong.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.command_line import command_line
from bench.faults import journalled
from bench.faults.chaos_cases import COMMANDS, Case, Undisturbed, names_in, prepare
from bench.faults.slowed_ranks import BATCH, TRACE
from pyramidai_mpi.testing.launch import StartedJob, kill, started

LONGEST_DELAY_S = {"opening": 0.3, "resuming": 0.4, "running": 0.5, "finalising": 0.6, "rank 0": 0.5}
PHASES = tuple(LONGEST_DELAY_S)


@dataclass
class Tally:
    """What has happened so far."""

    kills: Counter[str] = field(default_factory=Counter)
    too_late: int = 0
    compared: int = 0
    lost_tiles: list[int] = field(default_factory=list)
    tiles_again: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def journalled_bytes(case: Case) -> int:
    """Size of all files of the journals."""
    total = 0
    for path in case.journals():
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def known_tiles(case: Case) -> int:
    """Tiles of the results that are there, and of the journals of slides that have none."""
    return journalled.known_tiles(case.outputs(), lambda output: case.account(output)[1])


def analysed_tiles(trace: Path) -> int:
    """Tiles that the ranks of a run have analysed."""
    return sum(int(np.frombuffer(path.read_bytes(), "<u4").sum()) for path in trace.glob("analysed-*"))


def kill_once(case: Case, phase: str, rng: np.random.Generator, tally: Tally) -> int:
    """Start or resume a run and kill one of its processes in a phase; tiles that the run has analysed."""
    trace = case.trace()
    before, bytes_before = known_tiles(case), journalled_bytes(case)
    victim = 0 if phase == "rank 0" else int(rng.integers(-1, case.ranks))  # -1: the launcher
    delay = float(rng.uniform(0, LONGEST_DELAY_S[phase]))
    nth = int(rng.integers(max(case.unfinished(), 1))) + 1

    def has_come() -> bool:
        if phase in {"running", "rank 0"}:
            return journalled_bytes(case) > bytes_before
        return len(list(trace.glob(f"phase-{phase}-*"))) >= nth

    with run(case, trace) as job:
        if job.wait_until(has_come):
            time.sleep(delay)
        if job.launcher.poll() is None:
            pids = job.ranks()
            kill(job.launcher.pid if victim < 0 or victim not in pids else pids[victim])
            tally.kills[phase] += 1
            with contextlib.suppress(Exception):
                job.wait(10)
        else:
            tally.too_late += 1
    analysed = analysed_tiles(trace)
    # nothing of the job is left, so nobody writes while results and journals are counted
    lost = analysed - (known_tiles(case) - before)
    tally.lost_tiles.append(lost)
    if not 0 <= lost <= BATCH * case.ranks:
        tally.wrong.append(f"{lost} of {analysed} tiles that were analysed are not known after a kill while {phase}")
    return analysed


def run(case: Case, trace: Path) -> contextlib.AbstractContextManager[StartedJob]:
    """Start a run, or go on with one."""
    arguments = case.arguments(case.results, "--resume")
    return started(case.ranks, ["-m", "bench.faults.slowed_ranks", *arguments], {TRACE: str(trace)})


def check_results(case: Case, undisturbed: Undisturbed, tally: Tally, after: str) -> None:
    """The results that are there must be right."""
    from pyramidai_mpi.base.errors import PyramidError

    for output in case.outputs():
        if not output.exists():
            continue
        tally.compared += 1
        try:
            found, _ = case.account(output)
        except PyramidError as error:
            found = str(error)
        wanted = undisturbed.digests[output.name]
        if found != wanted:
            tally.wrong.append(f"{output.name}: digest {found} instead of {wanted} after {after}")


def campaign(
    case: Case, undisturbed: Undisturbed, rng: np.random.Generator, tally: Tally, wanted: int, most: int
) -> None:
    """One output from its first start over some kills to its end."""
    history: list[str] = []
    analysed = 0
    for _ in range(int(rng.integers(1, most + 1))):
        if tally.kills.total() >= wanted:
            break
        rarest = min(PHASES, key=lambda phase: tally.kills[phase])
        phase = rarest if rng.random() < 0.7 else PHASES[int(rng.integers(len(PHASES)))]
        if phase == "resuming" and not any(map(journalled.tiles_by_tag, case.journals())):
            phase = "running"
        history.append(phase)
        analysed += kill_once(case, phase, rng, tally)
        check_results(case, undisturbed, tally, f"kills while {', '.join(history)}")
    kills = f"kills while {', '.join(history)}"
    trace = case.trace()
    with run(case, trace) as job:
        code = job.wait(120)
        if code != 3:
            tally.wrong.append(f"exit code {code} after {kills}: {job.output()}")
    analysed += analysed_tiles(trace)
    check_results(case, undisturbed, tally, f"{kills}, and the end")
    again = analysed - undisturbed.n_tiles
    tally.tiles_again.append(again)
    if not 0 <= again <= BATCH * case.ranks * len(history):
        tally.wrong.append(f"{analysed} tiles were analysed for {undisturbed.n_tiles} in the results after {kills}")
    left = names_in(case.results)
    if left != undisturbed.files:
        tally.wrong.append(f"after {kills} there is {left} instead of {undisturbed.files}")
    shutil.rmtree(case.results)
    case.results.mkdir()


def main() -> None:
    """See the module."""
    parser = command_line(__doc__)
    parser.add_argument("--command", choices=COMMANDS, default=COMMANDS[0], help="classify, or extract patches")
    parser.add_argument("--pixels", default="stored", help="of extracted patches: stored, raw, jpeg:Q or none")
    parser.add_argument("--slides", type=int, default=1)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--kills-a-run", type=int, default=4, help="most kills before a run is let through to its end")
    options = parser.parse_args()
    what = f"{options.command}, {options.slides} slides, {options.ranks} ranks, {options.kills} kills"
    print(f"seed {options.seed}, {what}", flush=True)
    rng = np.random.default_rng(options.seed)
    tally, started_at = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        case = Case(Path(name), options.ranks, options.slides, options.command, options.pixels)
        undisturbed = prepare(case)
        while tally.kills.total() < options.kills and not tally.wrong:
            campaign(case, undisturbed, rng, tally, options.kills, options.kills_a_run)
            seconds = time.monotonic() - started_at
            print(f"{seconds:6.0f} s: {tally.kills.total()} kills, {tally.compared} results compared", flush=True)
    lost, again = np.array(tally.lost_tiles or [0]), np.array(tally.tiles_again)
    print("kills while " + ", ".join(f"{phase}: {tally.kills[phase]}" for phase in PHASES))
    print(f"runs that ended before their kill: {tally.too_late}")
    print(f"results compared: {tally.compared}, all with the digest of the undisturbed run: {not tally.wrong}")
    print(
        f"tiles analysed and not known after a kill: at most {lost.max()}, on average {lost.mean():.2f} "
        f"(a batch has {BATCH}, there are {options.ranks} ranks)"
    )
    print(f"tiles analysed again: {again.sum()}, beside {len(again)} times {undisturbed.n_tiles}")
    for line in tally.wrong:
        print(f"WRONG (seed {options.seed}): {line}")
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
