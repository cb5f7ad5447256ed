"""One trial: start the work, disturb it, go on with it, let it through to its end, and judge all that was seen."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.faults.campaign import faults, works
from bench.faults.campaign.checks import SeenStart, Wrong, wrongs_at_the_end, wrongs_of_start
from bench.faults.campaign.faults import LAUNCHER, Fault
from bench.faults.campaign.hosts import NAMES, HostsOnDemand
from bench.faults.journalled import known_tiles
from bench.faults.slowed_ranks import ARMED, TRACE
from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.testing.launch import StartedJob, kill, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from bench.faults.campaign.plans import Plan

FOR_EVER = -1
PATIENCE_S = 150.0
"""How long a start may take before and after its fault, on a machine that has little else to do."""
GOING_S = 30.0
"""And how long its processes may outlive its launcher."""
CABLE_PATIENCE_S = 300.0
USUAL_LOAD = 4.0
"""Processes that want each core; where there are more, all takes that much longer."""


@dataclass
class Outcome:
    """What came of a trial."""

    wrongs: list[Wrong] = field(default_factory=list)
    starts: list[SeenStart] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0


def compiled_surroundings(folder: Path) -> Path:
    """`surroundings.c` as a library, made where it is not there."""
    source, library = Path(__file__).with_name("surroundings.c"), folder / "surroundings.so"
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise SystemExit("no C compiler to make failing disks with; install gcc")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


class Trial:
    """A plan being carried out.

    Parameters
    ----------
    plan
        What is done.
    inputs
        Folder of the inputs of all works, which trials share.
    hosts
        Makes them, where the plan has some.
    tamper
        Called with the folder of results after each start, and its number from 1: to see that what it does is found.
    patience_s
        How long a start may take, once its fault has come.
    """

    def __init__(
        self,
        plan: Plan,
        inputs: Path,
        hosts: HostsOnDemand,
        *,
        tamper: Callable[[Path, int], None] = lambda _results, _number: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.plan, self._hosts, self._tamper, self._patience_s = plan, hosts, tamper, patience_s
        self.work, self.undisturbed = works.prepared(inputs, plan.work, plan.slides)
        self._library = compiled_surroundings(inputs)
        self._n_started = 0

    def carry_out(self) -> Outcome:
        """Do all of it, in a folder that is gone afterwards."""
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="trial-") as name:
            self._folder = Path(name)
            self._results = self._folder / "results"
            self._results.mkdir()
            outcome = self._disturbed_and_let_through()
        outcome.seconds = time.monotonic() - begun
        return outcome

    def _disturbed_and_let_through(self) -> Outcome:
        outcome = Outcome()
        for number, fault in enumerate([*self.plan.faults, None]):
            if fault is not None and number and self._is_finished():
                continue
            self._see(outcome, fault, is_first=number == 0)
            if any(wrong.what == "hung" for wrong in outcome.wrongs):
                return outcome
        names = works.names_in(self._results)
        outcome.wrongs += wrongs_at_the_end(outcome.starts, self.undisturbed, names, self.plan.ranks)
        return outcome

    def _see(self, outcome: Outcome, fault: Fault | None, *, is_first: bool) -> None:
        seen, said = self._start(fault, is_first=is_first)
        outcome.starts.append(seen)
        wrongs = wrongs_of_start(seen, self.work.kind, self.undisturbed)
        outcome.wrongs += wrongs
        outcome.said.append(said if wrongs else "")

    def _is_finished(self) -> bool:
        """Whether nothing is left to be done, or to be tidied up."""
        outputs = self.work.outputs(self._results)
        return all(output.exists() for output in outputs) and works.names_in(self._results) == self.undisturbed.names

    def _found(self) -> dict[str, str]:
        """Digest of each result that is there, or what is wrong with it."""
        found = {}
        for output in self.work.outputs(self._results):
            if output.exists():
                try:
                    found[output.name] = self.work.account(output)[0]
                except (PyramidError, OSError) as error:
                    found[output.name] = str(error)
        return found

    def _known(self) -> int | None:
        if self.work.kind.trains:
            return None
        pieces = self.undisturbed.pieces
        return known_tiles(self.work.outputs(self._results), lambda output: pieces[output.name])

    def _start(self, fault: Fault | None, *, is_first: bool) -> tuple[SeenStart, str]:
        self._n_started += 1
        trace = Path(tempfile.mkdtemp(dir=self._folder, prefix="trace-"))
        before, known_before = frozenset(self._found()), self._known()
        if fault is not None and fault.phase == "running" and known_before == self.undisturbed.done:
            is_alone = len(self.undisturbed.digests) == 1 and faults.KINDS[fault.kind].is_of_disk
            # all is analysed; of one slide rank 0 alone writes what is left
            fault = replace(fault, phase="finalising", victims=(0,) if is_alone else fault.victims)
        options = [] if is_first else ["--resume"]
        words = ["-m", "bench.faults.slowed_ranks", *self.work.arguments(self._results, *options)]
        n_runs = fault.runs if fault is not None and fault.kind == "several runs at once" else 1
        hit, stacks, said = "", "", ""
        codes: list[int | None] = []
        with ExitStack() as stack:
            # all runs but the first are of one rank, without mpirun: the machine is small
            jobs = [
                stack.enter_context(self._started(words, trace, fault, alone=number > 0)) for number in range(n_runs)
            ]
            if fault is not None:
                hit = self._disturb(fault, jobs[0], trace)
            for job in jobs:
                code, stack_of_job = self._end(job, fault)
                codes.append(code)
                stacks += stack_of_job
            said = "".join(job.output() for job in jobs)
        if fault is not None and fault.kind == "cut a cable for good":
            self._hosts.get(slow=self.plan.habit == faults.SLOW_LINKS).set_cable(NAMES[fault.victims[0]], "up")
        for left in self._results.rglob(".nfs*"):  # of a process that was killed; its machine would remove it
            left.unlink(missing_ok=True)
        if is_first and hit == "resuming":
            hit = "opening"
        failed = any(trace.glob("FAILED-*"))
        kind = None if fault is None else faults.KINDS[fault.kind]
        if kind is not None and (kind.is_of_disk or kind.name == "stale file handle") and not failed:
            hit = ""
        self._tamper(self._results, self._n_started)
        done, last = works.pieces_done(trace)
        seen = SeenStart(
            fault,
            hit,
            codes,
            stacks,
            done,
            last,
            known_before,
            self._known(),
            self._found(),
            before,
            failed,
        )
        shutil.rmtree(trace)
        return seen, said

    def _started(
        self, words: list[str], trace: Path, fault: Fault | None, *, alone: bool
    ) -> AbstractContextManager[StartedJob]:
        environment = {TRACE: str(trace), "XDG_CACHE_HOME": str(self._folder / "cache")}
        habits = faults.HABITS.get(self.plan.habit, "")
        if habits.endswith("="):
            habits += str(self._n_started)
        kind = None if fault is None else faults.KINDS[fault.kind]
        if fault is not None and fault.kind == "stale file handle":
            habits = f"{habits},stale={fault.call}"
        if fault is not None and kind is not None and kind.is_of_disk:
            last = FOR_EVER if kind.is_lasting else fault.call
            armed = {"rank": fault.victims[0], "phase": fault.phase, "nth": fault.nth, "call": fault.call}
            environment[ARMED] = json.dumps({**armed, "last": last, "errno": kind.errno})
        if habits or ARMED in environment:
            environment |= {"LD_PRELOAD": str(self._library), "PYRAMIDAI_BELOW": str(self._results)}
            environment |= {"PYRAMIDAI_TOLD": str(trace), "PYRAMIDAI_HABITS": habits}
        if self.plan.over_hosts and not alone:
            hosts = self._hosts.get(slow=self.plan.habit == faults.SLOW_LINKS)
            return started(None, words, environment, under=hosts.under())
        return started(None if alone else self.plan.ranks, words, environment)

    def _disturb(self, fault: Fault, job: StartedJob, trace: Path) -> str:
        """Let the fault come; the phase that it hit, empty when the work has ended before."""
        kind = faults.KINDS[fault.kind]
        if kind.is_of_disk:
            return fault.phase
        if fault.kind in {"stale file handle", "several runs at once"}:
            return "any"

        def has_come() -> bool:
            return fault.phase == "any" or len(list(trace.glob(f"phase-{fault.phase}-*"))) >= fault.nth

        _wait(lambda: has_come() or job.launcher.poll() is not None, PATIENCE_S)
        with suppress(subprocess.TimeoutExpired):
            job.launcher.wait(fault.delay_s)
        if job.launcher.poll() is not None:
            return ""
        pids = job.ranks()
        if not pids and any(trace.glob("now-*")):
            return ""  # all ranks have ended, and mpirun is about to
        pids_by_victim = {**pids, LAUNCHER: job.launcher.pid}
        victims = [pids_by_victim[victim] for victim in fault.victims if victim in pids_by_victim]
        if not victims and fault.kind != "folder renamed away" and not kind.is_of_hosts:
            victims = [job.launcher.pid]  # its ranks are not there yet
        hit = _phase_of(trace, victims, list(pids.values()))
        self._act(fault, job, victims)
        return hit

    def _act(self, fault: Fault, job: StartedJob, victims: list[int]) -> None:
        if fault.kind.startswith("SIG"):
            name = fault.kind.partition(" ")[0]
            kill(victims[0], signal.Signals[name])
        elif fault.kind.startswith("kill a host"):
            hosts = self._hosts.get(slow=self.plan.habit == faults.SLOW_LINKS)
            hosts.kill_all_on(NAMES[fault.victims[0]], job.processes())
        elif fault.kind.startswith("cut"):
            hosts = self._hosts.get(slow=self.plan.habit == faults.SLOW_LINKS)
            hosts.set_cable(NAMES[fault.victims[0]], "down")
            if fault.kind != "cut a cable for good":
                time.sleep(fault.seconds)
                hosts.set_cable(NAMES[fault.victims[0]], "up")
        elif fault.kind.startswith("suspend"):
            kill(victims[0], signal.SIGSTOP)
            time.sleep(fault.seconds)
            kill(victims[0], signal.SIGKILL if "kill" in fault.kind else signal.SIGCONT)
        elif fault.kind == "folder renamed away":
            self._rename_away(fault, job)
        else:
            for pid in victims:
                kill(pid)

    def _rename_away(self, fault: Fault, job: StartedJob) -> None:
        """The folder of results is elsewhere until the work has ended; what was made in its place is litter."""
        away = self._results.with_name("away")
        self._results.rename(away)
        _wait(lambda: job.launcher.poll() is not None, self._patience_s)
        made_anew = self._results.exists() and any(self._results.iterdir())
        if self._results.exists():
            self._results.rename(self._results.with_name(f"anew-{random.random()}"))
        away.rename(self._results)
        if made_anew:
            (self._results / "MADE-ANEW").touch()

    def _end(self, job: StartedJob, fault: Fault | None) -> tuple[int | None, str]:
        """Exit code of a job, and where its processes stand when they have not ended in time."""
        patience = CABLE_PATIENCE_S if fault is not None and fault.kind.startswith("cut") else self._patience_s
        code: int | None = None
        if _wait(lambda: job.launcher.poll() is not None, patience):
            code = job.launcher.returncode
            _wait(lambda: not job.processes(), GOING_S)
        if left := job.processes():
            job.ask_for_stacks()
            return code, f"alive: {len(left)} processes\n{job.output()}"
        return code, ""


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until it holds, on a busy machine the longer; whether it does."""
    left, before = seconds, time.monotonic()
    while not condition():
        if left < 0:
            return False
        time.sleep(0.02)
        now = time.monotonic()
        left -= (now - before) / max(1.0, os.getloadavg()[0] / (USUAL_LOAD * (os.cpu_count() or 1)))
        before = now
    return True


def _phase_of(trace: Path, victims: list[int], ranks: list[int]) -> str:
    """The phase that a victim is in; of a launcher or a host that of any rank."""
    for pid in [*victims, *ranks]:
        with suppress(OSError):
            return (trace / f"now-{pid}").read_text() or "starting"
    return "starting"


def commit_of_tree() -> str:
    """The commit that is tried, with a mark where files differ from it."""
    from pyramidai_mpi.testing.launch import REPOSITORY

    words = ["git", "-C", os.fspath(REPOSITORY), "describe", "--always", "--dirty"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
