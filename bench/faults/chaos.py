"""Kill ranks of runs, again and again, at any moment, and see whether anything is lost.

    python -m bench.faults.chaos [--slides 1] [--kills 500] [--seed 1] [--ranks 3] [--kills-a-run 4]

One slide or several are analysed in small tiles that take their time. Again and again a run is started or resumed, and
one of its ranks or its launcher gets SIGKILL: while it opens a slide, while it reads its journal back, while it
analyses, while it puts a result together, writes it and removes the journal, or it is rank 0. The phases are slowed
down, so that kills hit all their steps. After some kills a run is let through to its end, and its digests compared with
those of an undisturbed run. After every kill there must be no result of a slide or a right one, and the journal must
hold all that was analysed but for the batch that each rank was at; and no start may do again what the journal holds.

Prints its seed; the same seed chooses the same victims, phases and delays. Exit code 1 when anything was wrong.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from bench.command_line import command_line
from pyramidai_mpi.store.journal.format import CHECK_BYTES, FRAME, MARK, FrameHead
from pyramidai_mpi.testing.launch import StartedJob, kill, started

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_DELAY_S = {"opening": 0.3, "resuming": 0.4, "running": 0.5, "finalising": 0.6, "rank 0": 0.5}
PHASES = tuple(LONGEST_DELAY_S)
TILE_S = 0.006
STEP_S = 0.02
BATCH = 8
SIDE, SIDE_OF_SEVERAL = 1024, 640
THRESHOLDS = (0.65, 0.62, 0.6)
TRACE = "PYRAMIDAI_CHAOS_FOLDER"


def be_a_rank(arguments: list[str]) -> None:
    """The real command, slowed down, which says which phase it is in and what it has analysed."""
    from pyramidai_mpi.analyses.classify import SlideClassifier
    from pyramidai_mpi.cli.main import main
    from pyramidai_mpi.run import finishing, opening, resume, run, write
    from pyramidai_mpi.store.journal.folder import JournalFolder
    from pyramidai_mpi.store.journal.reader import SlideFrames

    folder = Path(os.environ[TRACE])
    analysed = os.open(folder / f"analysed-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    numbers = count()

    def slow_down(owner: Any, *names: str, phase: str = "") -> None:
        for name in names:
            setattr(owner, name, slow(getattr(owner, name), phase))

    def slow(real: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def slowly(*positional: Any, **named: Any) -> Any:
            if phase:
                (folder / f"phase-{phase}-{os.getpid()}-{next(numbers)}").touch()
            time.sleep(STEP_S)
            found = real(*positional, **named)
            time.sleep(STEP_S)
            return found

        return slowly

    real_look, real_unlink = SlideClassifier.look, os.unlink

    def look(self: SlideClassifier, tiles: Any, *others: Any) -> Any:
        time.sleep(TILE_S * len(tiles))
        found = real_look(self, tiles, *others)
        os.write(analysed, len(tiles).to_bytes(4, "little"))
        return found

    def unlink(path: Any, **named: Any) -> None:
        """One file of a journal after the other goes, so that some may be left."""
        real_unlink(path, **named)
        if Path(path).name.endswith((".tiles", "manifest.json")):
            time.sleep(STEP_S)

    SlideClassifier.look = look  # type: ignore[method-assign]
    os.unlink = unlink
    slow_down(run, "describe", phase="opening")
    slow_down(run, "follow")
    slow_down(opening, "tissue_of")
    slow_down(run, "read_journals", phase="resuming")
    slow_down(finishing, "begin_slide", phase="resuming")
    slow_down(resume, "scan_file", "gather_records", "_begin_or_join", "find_frontier")
    slow_down(SlideFrames, "records")
    slow_down(JournalFolder, "create", "remove")
    slow_down(finishing, "assemble_result", phase="finalising")
    slow_down(run, "gather_records", "locate_features")
    slow_down(write, "create_file", "write_slab", "finish_file", "place")
    slow_down(resume.SlideOutput, "remove_journal")
    slow_down(resume.Journals, "remove_shared")
    main(arguments)


@dataclass
class Tally:
    """What has happened so far."""

    kills: Counter[str] = field(default_factory=Counter)
    too_late: int = 0
    compared: int = 0
    lost_tiles: list[int] = field(default_factory=list)
    tiles_again: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Undisturbed:
    """What comes of a run that nobody disturbs: names of all files, digests of the results, tiles in all of them."""

    files: list[str]
    digests: dict[str, str]
    n_tiles: int


@dataclass(frozen=True)
class Case:
    """What is run: slides and a model, in a folder of its own."""

    folder: Path
    ranks: int
    slides: int

    @property
    def results(self) -> Path:
        """Folder of the results."""
        return self.folder / "out"

    def outputs(self) -> list[Path]:
        """The result files."""
        return [self.results / f"{slide.stem}.h5" for slide in self.inputs()]

    def unfinished(self) -> int:
        """How many slides have no result."""
        return sum(not output.exists() for output in self.outputs())

    def inputs(self) -> list[Path]:
        """The slides."""
        return [self.folder / f"{number}.tif" for number in range(self.slides)]

    def arguments(self, results: Path, *options: str) -> list[str]:
        """Of the command."""
        where = ["-o", str(results / "0.h5")] if self.slides == 1 else ["--results-dir", str(results)]
        common = ["--model", str(self.folder / "model"), "--batch-size", str(BATCH), "--quiet"]
        return [*map(str, self.inputs()), *where, *common, *options]

    def journals(self) -> list[Path]:
        """Files of the journals."""
        return list(self.results.glob("*.journal/*.tiles"))

    def trace(self) -> Path:
        """An empty folder for what a run says of itself."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def prepare(case: Case) -> Undisturbed:
    """Make slides and model, and run them undisturbed."""
    from bench.speed.tiny_network import write_tiny_package
    from pyramidai_mpi.store.results.summary import read_account
    from pyramidai_mpi.synth import SynthSpec, write_slide

    side = SIDE if case.slides == 1 else SIDE_OF_SEVERAL
    for seed, slide in enumerate(case.inputs(), 1):
        write_slide(SynthSpec(side, side, seed=seed, tumor_share=0.3), slide)
        wipe_fullest_tile(slide)
    write_tiny_package(case.folder / "model", tile_size=32, thresholds=THRESHOLDS)
    undisturbed = case.folder / "undisturbed"
    for folder in (case.results, undisturbed):
        folder.mkdir()
    with started(None, ["-m", "pyramidai_mpi", *case.arguments(undisturbed)]) as job:
        code = job.wait()
        if code != 3:  # the slides have an unreadable part
            raise SystemExit(f"the undisturbed run ended with {code}\n{job.output()}")
    accounts = {output.name: read_account(undisturbed / output.name) for output in case.outputs()}
    return Undisturbed(
        names_in(undisturbed),
        {name: account.digest for name, account in accounts.items()},
        sum(sum(account.tiles) for account in accounts.values()),
    )


def names_in(folder: Path) -> list[str]:
    """Names of all that is in a folder, but for the accounts that each start of several slides leaves."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("run_metadata_"))


def wipe_fullest_tile(path: Path) -> None:
    """Overwrite the stored tile with most bytes, which holds tissue: it cannot be read any more."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        n_bytes, offset = max(zip(page.databytecounts, page.dataoffsets, strict=True))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(n_bytes))


def journalled_bytes(case: Case) -> int:
    """Size of all files of the journals."""
    total = 0
    for path in case.journals():
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def journalled_tiles(case: Case) -> int:
    """Tiles in the journals, counted from the heads of their frames alone (see `store.journal.format`)."""
    total = 0
    for path in case.journals():
        data = path.read_bytes()
        at = data.find(MARK)
        while 0 <= at <= len(data) - FRAME.size:
            head = FrameHead(*FRAME.unpack_from(data, at))
            at += FRAME.size + head.length + CHECK_BYTES
            if at > len(data):
                break
            total += head.n_tiles
    return total


def analysed_tiles(trace: Path) -> int:
    """Tiles that the ranks of a run have analysed."""
    return sum(int(np.frombuffer(path.read_bytes(), "<u4").sum()) for path in trace.glob("analysed-*"))


def kill_once(case: Case, phase: str, rng: np.random.Generator, tally: Tally) -> int:
    """Start or resume a run and kill one of its processes in a phase; tiles that the run has analysed."""
    trace = case.trace()
    before, bytes_before = journalled_tiles(case), journalled_bytes(case)
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
    if case.unfinished():
        lost = analysed - (journalled_tiles(case) - before)
        tally.lost_tiles.append(lost)
        if lost > BATCH * case.ranks:
            tally.wrong.append(f"{lost} tiles were analysed and are not in the journal after a kill while {phase}")
    return analysed


def run(case: Case, trace: Path) -> contextlib.AbstractContextManager[StartedJob]:
    """Start a run, or go on with one."""
    arguments = case.arguments(case.results, "--resume")
    return started(case.ranks, ["-m", "bench.faults.chaos", "--rank", *arguments], {TRACE: str(trace)})


def check_results(case: Case, undisturbed: Undisturbed, tally: Tally, after: str) -> None:
    """The results that are there must be right."""
    from pyramidai_mpi.base.errors import PyramidError
    from pyramidai_mpi.store.results.reader import read_digest

    for output in case.outputs():
        if not output.exists():
            continue
        tally.compared += 1
        try:
            found = read_digest(output)
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
        if phase == "resuming" and not journalled_tiles(case):
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
    if sys.argv[1:2] == ["--rank"]:
        be_a_rank(sys.argv[2:])
        return
    parser = command_line(__doc__)
    parser.add_argument("--slides", type=int, default=1)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--kills-a-run", type=int, default=4, help="most kills before a run is let through to its end")
    options = parser.parse_args()
    what = f"{options.slides} slides, {options.ranks} ranks, {options.kills} kills"
    print(f"seed {options.seed}, {what}", flush=True)
    rng = np.random.default_rng(options.seed)
    tally, started_at = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        case = Case(Path(name), options.ranks, options.slides)
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
        f"tiles analysed and not in the journal after a kill: at most {lost.max()}, on average {lost.mean():.2f} "
        f"(a batch has {BATCH}, there are {options.ranks} ranks)"
    )
    print(f"tiles analysed again: {again.sum()}, beside {len(again)} times {undisturbed.n_tiles}")
    for line in tally.wrong:
        print(f"WRONG (seed {options.seed}): {line}")
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
