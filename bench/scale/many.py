"""Many small slides as one cohort on many ranks: what grows with them, in files, open files, memory and seconds.

    python -m bench.scale.many [--slides 1000] [--ranks 12,48] [--open-files 256] [--pixels 700] [--folder DIR]

Slides are made from twenty seeds, the rest are copies, each a file of its own. While the ranks work, every second, this
counts for each of them its resident bytes and open files, and the files in the results'
folder. Growth is the slope of a rank's resident bytes, by least squares over the slides that have ended, in the second
half of the run: what a rank still takes for each slide more. All digests are compared with those of the twenty alone.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.on_ranks import run_program
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import started

if TYPE_CHECKING:
    from pyramidai_mpi.testing.launch import StartedJob

SEEDS = 20
_PATIENCE_S = 3600.0
_PAUSE_S = 1.0


@dataclass
class Seen:
    """What was counted of a job while it ran."""

    open_files: int = 0
    files: int = 0
    first_end_s: float = 0.0
    resident: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Of each rank's process: slides that have ended, resident bytes."""

    def look(self, ranks: list[int], results: Path) -> None:
        """Count once."""
        names = _names_below(results)
        ended = sum(name.endswith(".h5") and not name.startswith(".") for name in names)
        self.files = max(self.files, len(names) - ended)
        for number in ranks:
            with suppress(OSError):  # it has left
                folder = Path(f"/proc/{number}")
                self.open_files = max(self.open_files, len(list((folder / "fd").iterdir())))
                pages = int((folder / "statm").read_text().split()[1])
                self.resident.setdefault(number, []).append((ended, pages * resource.getpagesize()))

    def peak(self) -> int:
        """Most resident bytes of any rank."""
        return max(bytes_now for seen in self.resident.values() for _, bytes_now in seen)

    def growth(self) -> float:
        """Bytes a slide of the rank that grows most, in the second half of the run."""
        slopes = [0.0]
        for seen in self.resident.values():
            ended, resident = np.array(seen, float).T
            half = ended >= ended.max() / 2
            if np.ptp(ended[half]) > 0:
                slopes.append(np.polyfit(ended[half], resident[half], 1)[0])
        return max(slopes)


def _names_below(folder: Path) -> list[str]:
    found: list[str] = []
    for _, _, names in os.walk(folder):
        found += names
    return found


def make_slides(folder: Path, n: int, pixels: int) -> None:
    """Make so many slides, each a file of its own, of twenty seeds."""
    folder.mkdir()
    for seed in range(min(n, SEEDS)):
        write_slide(SynthSpec(pixels, pixels, seed=seed), folder / f"s{seed:05}.tif")
    for number in range(SEEDS, n):
        shutil.copyfile(folder / f"s{number % SEEDS:05}.tif", folder / f"s{number:05}.tif")


def measure(slides: Path, ranks: int, open_files: int, results: Path) -> tuple[Seen, float]:
    """Run the cohort and watch it; what was seen, and seconds.

    Raises
    ------
    SystemExit
        It failed.
    """
    seen, began = Seen(), time.monotonic()
    words = ["-m", "pyramidai_mpi", slides, "--results-dir", results, "-q"]
    with started(ranks, words, under=["prlimit", f"--nofile={open_files}:{open_files}"]) as job:
        numbers: list[int] = []
        while job.launcher.poll() is None:
            if len(numbers) < ranks:
                numbers = _ranks_of(job)
            seen.look(numbers, results)
            if not seen.first_end_s and any(results.glob("*.h5")):
                seen.first_end_s = time.monotonic() - began
            time.sleep(_PAUSE_S)
        seconds = time.monotonic() - began
        if job.wait(_PATIENCE_S):
            raise SystemExit(f"{ranks} ranks ended with {job.wait()}\n{job.output()[-4000:]}")
    return seen, seconds


def _ranks_of(job: StartedJob) -> list[int]:
    return list(job.ranks().values())


def check_digests(results: Path, alone: Path, n: int) -> None:
    """See that every slide has its result, and nothing else is left.

    Raises
    ------
    SystemExit
        One is missing or differs.
    """
    right = [read_digest(alone / f"s{seed:05}.h5") for seed in range(min(n, SEEDS))]
    for number in range(n):
        if read_digest(results / f"s{number:05}.h5") != right[number % SEEDS]:
            raise SystemExit(f"slide {number}: another digest than alone")
    left = {name for name in _names_below(results) if not name.endswith((".h5", ".csv", ".json"))}
    if left:
        raise SystemExit(f"left over: {sorted(left)[:5]}")


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--ranks", type=lambda text: [int(word) for word in text.split(",")], default=[12, 48])
    parser.add_argument("--open-files", type=int, default=256, help="what each process may have (ulimit -n)")
    parser.add_argument("--pixels", type=int, default=700, help="side of a slide")
    parser.add_argument("--folder", type=Path, default=None, help="for slides and results, 200 MB")
    options = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        make_slides(folder / "slides", options.slides, options.pixels)
        few = [folder / "slides" / f"s{seed:05}.tif" for seed in range(min(options.slides, SEEDS))]
        run_program(1, [*few, "--results-dir", folder / "alone"])
        for ranks in options.ranks:
            results = folder / f"on-{ranks}"
            seen, seconds = measure(folder / "slides", ranks, options.open_files, results)
            check_digests(results, folder / "alone", options.slides)
            setting = {"slides": options.slides, "ranks": ranks, "open_files": options.open_files}
            figures += [
                Figure("seconds", seconds, "s", setting),
                Figure("first result after", seen.first_end_s, "s", setting),
                Figure("most open files of a rank", seen.open_files, "", setting),
                Figure("most files beside results", seen.files, "", setting),
                Figure("fullest rank", seen.peak() / 1e6, "MB", setting),
                Figure("growth of the fastest growing rank", seen.growth() / 1e3, "kB a slide", setting),
            ]
            shutil.rmtree(results)
            report(figures[-6:], None)
    report(figures, options.json)


if __name__ == "__main__":
    main()
