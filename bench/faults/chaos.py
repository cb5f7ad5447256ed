"""Kill ranks of runs, again and again, at any moment, and see whether anything is lost.

    python -m bench.faults.chaos [--kills 500] [--seed 1] [--ranks 3] [--kills-a-run 4]

A slide is analysed in small tiles that take their time. Again and again a run is started or resumed, and one of its
ranks or its launcher gets SIGKILL: while it analyses, while it reads its journal back, while it gathers and writes the
result, or it is rank 0. The phases are slowed down, so that kills hit all their steps. After some kills a run is
let through to its end, and its digest compared with that of an undisturbed run. After every kill there must be no
result or a right one, and the journal must hold all that was analysed but for the batch that each rank was at.

Prints its seed; the same seed chooses the same victims, phases and delays. Exit code 1 when anything was wrong.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bench.command_line import command_line
from pyramidai_mpi.testing.launch import StartedJob, kill, started

PHASES = ("running", "resuming", "finalising", "rank 0")
LONGEST_DELAY_S = {"running": 0.5, "resuming": 0.4, "finalising": 0.6, "rank 0": 0.5}
TILE_S = 0.006
STEP_S = 0.02
BATCH = 8
SIDE = 1024
THRESHOLDS = (0.65, 0.62, 0.6)
TRACE = "PYRAMIDAI_CHAOS_FOLDER"


def be_a_rank(arguments: list[str]) -> None:
    """The real command, slowed down, which says which phase it is in and what it has analysed."""
    from pyramidai_mpi.analyses.classify import Analyser
    from pyramidai_mpi.cli.main import main
    from pyramidai_mpi.run import resume as resuming
    from pyramidai_mpi.run import single as pipeline
    from pyramidai_mpi.run import write as recording

    folder = Path(os.environ[TRACE])
    analysed = os.open(folder / f"analysed-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def slow_down(owner: Any, name: str, phase: str = "") -> None:
        real = getattr(owner, name)

        def slow(*positional: Any, **named: Any) -> Any:
            if phase:
                (folder / f"phase-{phase}").touch()
            time.sleep(STEP_S)
            found = real(*positional, **named)
            time.sleep(STEP_S)
            return found

        setattr(owner, name, slow)

    real_analyse = Analyser.analyse

    def analyse(self: Analyser, tiles: Any, *others: Any) -> Any:
        time.sleep(TILE_S * len(tiles))
        found = real_analyse(self, tiles, *others)
        os.write(analysed, len(tiles).to_bytes(4, "little"))
        return found

    Analyser.analyse = analyse  # type: ignore[method-assign]
    slow_down(pipeline, "open_journal", "resuming")
    for name in ("_begin_or_check", "read_journal_file", "find_frontier", "gather_records"):
        slow_down(resuming, name)
    slow_down(pipeline, "take_over")
    slow_down(pipeline, "gather_result", "finalising")
    for name in ("create_file", "write_slab", "finish_file", "place"):
        slow_down(recording, name)
    slow_down(pipeline, "remove_journal")
    main(arguments)


@dataclass
class Tally:
    """What has happened so far."""

    kills: Counter[str] = field(default_factory=Counter)
    too_late: int = 0
    finished: int = 0
    lost_tiles: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """What is run: a slide and a model, in a folder of its own; and what comes of it undisturbed."""

    folder: Path
    ranks: int

    @property
    def output(self) -> Path:
        """The result file."""
        return self.folder / "out" / "out.h5"

    @property
    def journal(self) -> Path:
        """The journal's folder."""
        return self.output.with_name("out.h5.journal")

    def arguments(self, *options: str) -> list[str]:
        """Of the command, without `-o`."""
        common = [str(self.folder / "slide.tif"), "--model", str(self.folder / "model"), "--batch-size", str(BATCH)]
        return [*common, "--quiet", *options]

    def trace(self) -> Path:
        """An empty folder for what a run says of itself."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def prepare(folder: Path, ranks: int) -> tuple[Case, str]:
    """Make slide and model, and run them undisturbed; the case and the digest to be reached."""
    from bench.speed.tiny_network import write_tiny_package
    from pyramidai_mpi.store.results.reader import read_digest
    from pyramidai_mpi.synth import SynthSpec, write_slide

    case = Case(folder, ranks)
    write_slide(SynthSpec(SIDE, SIDE, seed=1, tumor_share=0.3), folder / "slide.tif")
    wipe_fullest_tile(folder / "slide.tif")
    write_tiny_package(folder / "model", tile_size=32, thresholds=THRESHOLDS)
    case.output.parent.mkdir()
    undisturbed = folder / "undisturbed.h5"
    with started(None, ["-m", "pyramidai_mpi", *case.arguments("-o", str(undisturbed))]) as job:
        code = job.wait()
        if code != 3:  # the slide has an unreadable part
            raise SystemExit(f"the undisturbed run ended with {code}\n{job.output()}")
    return case, read_digest(undisturbed)


def wipe_fullest_tile(path: Path) -> None:
    """Overwrite the stored tile with most bytes, which holds tissue: it cannot be read any more."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        n_bytes, offset = max(zip(page.databytecounts, page.dataoffsets, strict=True))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(n_bytes))


def journalled_bytes(case: Case) -> int:
    """Size of all files of the journal."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for path in case.journal.glob("*.tiles"):
            total += path.stat().st_size
    return total


def journalled_tiles(case: Case) -> int:
    """Tiles in the journal, counted from its frames alone: mark, number, tiles (see `store.journal.format`)."""
    total = 0
    for path in case.journal.glob("*.tiles"):
        data = path.read_bytes()
        at = data.find(b"PJF1")
        while 0 <= at <= len(data) - 24:
            _, _, n_tiles, _, length, _ = np.frombuffer(data, "<u4", 6, at).tolist()
            if at + 24 + length + 8 > len(data):
                break
            total += n_tiles
            at += 24 + length + 8
    return total


def analysed_tiles(trace: Path) -> int:
    """Tiles that the ranks of a run have analysed."""
    return sum(int(np.frombuffer(path.read_bytes(), "<u4").sum()) for path in trace.glob("analysed-*"))


def kill_once(case: Case, phase: str, rng: np.random.Generator, tally: Tally) -> None:
    """Start or resume a run and kill one of its processes in a phase."""
    trace = case.trace()
    before, bytes_before = journalled_tiles(case), journalled_bytes(case)
    victim = 0 if phase == "rank 0" else int(rng.integers(-1, case.ranks))  # -1: the launcher
    delay = float(rng.uniform(0, LONGEST_DELAY_S[phase]))

    def has_come() -> bool:
        if phase in {"resuming", "finalising"}:
            return (trace / f"phase-{phase}").exists()
        return journalled_bytes(case) > bytes_before

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
    if case.output.exists():
        return
    lost = analysed_tiles(trace) - (journalled_tiles(case) - before)
    tally.lost_tiles.append(lost)
    if lost > BATCH * case.ranks:
        tally.wrong.append(f"{lost} tiles were analysed and are not in the journal after a kill while {phase}")


def run(case: Case, trace: Path) -> contextlib.AbstractContextManager[StartedJob]:
    """Start a run, or go on with one."""
    arguments = case.arguments("-o", str(case.output), "--resume")
    return started(case.ranks, ["-m", "bench.faults.chaos", "--rank", *arguments], {TRACE: str(trace)})


def check_result(case: Case, digest: str, tally: Tally, after: str) -> None:
    """A result that is there must be right; then make room for the next."""
    from pyramidai_mpi.base.errors import PyramidError
    from pyramidai_mpi.store.results.reader import read_digest

    tally.finished += 1
    try:
        found = read_digest(case.output)
    except PyramidError as error:
        found = str(error)
    if found != digest:
        tally.wrong.append(f"digest {found} instead of {digest} after {after}")


def campaign(case: Case, digest: str, rng: np.random.Generator, tally: Tally, wanted: int, most: int) -> None:
    """One output from its first start over some kills to its end."""
    history = []
    for _ in range(int(rng.integers(1, most + 1))):
        if sum(tally.kills.values()) >= wanted:
            break
        rarest = min(PHASES, key=lambda phase: tally.kills[phase])
        phase = rarest if rng.random() < 0.7 else PHASES[int(rng.integers(len(PHASES)))]
        if phase == "resuming" and not journalled_tiles(case):
            phase = "running"
        history.append(phase)
        kill_once(case, phase, rng, tally)
        if case.output.exists():
            check_result(case, digest, tally, f"kills while {', '.join(history)}")
    trace = case.trace()
    with run(case, trace) as job:
        code = job.wait(120)
        if code != 3:
            tally.wrong.append(f"exit code {code} after kills while {', '.join(history)}: {job.output()}")
    if case.output.exists():
        check_result(case, digest, tally, f"kills while {', '.join(history)}, and the end")
    left = sorted(path.name for path in case.output.parent.iterdir())
    if left != ["out.h5"]:
        tally.wrong.append(f"left over after {', '.join(history)}: {left}")
    for path in case.output.parent.iterdir():
        if path.is_file():
            path.unlink()


def main() -> None:
    """See the module."""
    if sys.argv[1:2] == ["--rank"]:
        be_a_rank(sys.argv[2:])
        return
    parser = command_line(__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--kills-a-run", type=int, default=4, help="most kills before a run is let through to its end")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.ranks} ranks, {options.kills} kills", flush=True)
    rng = np.random.default_rng(options.seed)
    tally, started_at = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        case, digest = prepare(Path(name), options.ranks)
        while sum(tally.kills.values()) < options.kills and not tally.wrong:
            campaign(case, digest, rng, tally, options.kills, options.kills_a_run)
            done = sum(tally.kills.values())
            print(f"{time.monotonic() - started_at:6.0f} s: {done} kills, {tally.finished} results right", flush=True)
    lost = np.array(tally.lost_tiles or [0])
    print("kills while " + ", ".join(f"{phase}: {tally.kills[phase]}" for phase in PHASES))
    print(f"runs that ended before their kill: {tally.too_late}")
    print(f"results compared: {tally.finished}, all with the digest of the undisturbed run: {not tally.wrong}")
    print(
        f"tiles analysed and not in the journal after a kill: at most {lost.max()}, on average {lost.mean():.2f} "
        f"(a batch has {BATCH}, there are {options.ranks} ranks)"
    )
    for line in tally.wrong:
        print(f"WRONG (seed {options.seed}): {line}")
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
