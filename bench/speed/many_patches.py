"""A file of a million patches: opening it, reading groups of it, and what ranks hold while they extract it.

    python -m bench.speed.many_patches [--folder DIR] [--json FILE]

The slide is made (see `bench.speed.view_pan`): 100352 x 100352 pixels, JPEG tiles of 512, 1.2 GB. Patches of 224 px
at every 100 px make 1 008 016, with the slide's stored tiles another 0.9 GB. They are extracted on three ranks, all of
them, a tenth and a hundredth, with stored tiles and without pixels; memory is each rank's most. Then the file is read:
groups at random places, by one process with one thread, from the page cache, after some have been read. How many
patches a group may have to be decoded in 10 ms follows from what a tile takes, so groups of 16, 32 and 400 are timed;
their places alone, too. Takes three minutes and 3 GB of disk.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

from bench.command_line import command_line
from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402 - reads the environment when it is loaded

from bench.figures import Figure, report  # noqa: E402
from bench.memory import start_peak_anew  # noqa: E402
from bench.speed.view_pan import texture_of, write_large_slide  # noqa: E402
from pyramidai_mpi.patches.database import open_patches  # noqa: E402
from pyramidai_mpi.process.memory import peak_resident_bytes  # noqa: E402
from pyramidai_mpi.testing.launch import mpirun  # noqa: E402

SIDE, SIZE, STRIDE = 100_352, 224, 100
GROUPS = (16, 32, 400)
SAMPLES = ("random:10000", "random:100000", "dense")
RANKS = 3
READ = 200
_RANK = """
import atexit, sys
from pyramidai_mpi.cli.main import main
from pyramidai_mpi.process.memory import peak_resident_bytes
atexit.register(lambda: print(f"\\nPEAK {peak_resident_bytes()}\\n", flush=True))
main(sys.argv[1:])
"""


def extract(slide: Path, folder: Path, sample: str, pixels: str) -> list[Figure]:
    """Extract on some ranks; seconds, and the most memory that each has held."""
    words = ["patches", "extract", str(slide), "-o", str(folder), "--size", str(SIZE), "--stride", str(STRIDE)]
    words += ["--level", "0", "--no-tissue", "--sample", sample, "--pixels", pixels, "--overwrite", "-q"]
    started = time.perf_counter()
    job = mpirun(RANKS, ["-c", _RANK, *words], timeout=600, show=False)
    seconds = time.perf_counter() - started
    if job.returncode:
        raise SystemExit(f"extraction ended with {job.returncode}\n{job.stderr}")
    peaks = sorted((int(n) for n in re.findall(r"PEAK (\d+)", job.stdout)), reverse=True)
    setting = {"sample": sample, "pixels": pixels, "ranks": RANKS}
    return [
        Figure("extraction", seconds, "s", setting),
        Figure("most memory of the owner", peaks[0] / 1e6, "MB", setting),
        Figure("most memory of the others", peaks[1] / 1e6, "MB", setting),
    ]


def read(path: Path, group: int, *, decode: bool) -> list[Figure]:
    """Open the file, and read groups at random places."""
    setting = {"group": group, "pixels": "decoded" if decode else "places alone"}
    opening = []
    for _ in range(5):
        started = time.perf_counter()
        open_patches(path, group=group).close()
        opening.append(time.perf_counter() - started)
    rng = np.random.default_rng(0)
    room = np.ones((group, SIZE, SIZE, 3), np.uint8)
    seconds = []
    with open_patches(path, group=group) as patches:

        def read_group(number: int) -> float:
            started = time.perf_counter()
            if decode:
                patches.group(number, out=room)
            else:
                first = number * group
                patches.places(first, min(first + group, len(patches)))
            return time.perf_counter() - started

        first = read_group(int(rng.integers(patches.n_groups)))
        for number in rng.integers(patches.n_groups, size=READ).tolist():  # warm
            read_group(number)
        before = start_peak_anew()
        seconds = [read_group(number) for number in rng.integers(patches.n_groups, size=READ).tolist()]
        growth = peak_resident_bytes() - before
    return [
        Figure("opening, median", 1000 * float(np.median(opening)), "ms", setting),
        Figure("first group after opening", 1000 * first, "ms", setting),
        Figure("random group, median", 1000 * float(np.median(seconds)), "ms", setting),
        Figure("random group, 95th percentile", 1000 * float(np.percentile(seconds, 95)), "ms", setting),
        Figure("growth of memory over all of them", growth / 1e6, "MB", setting),
    ]


def tables(path: Path) -> list[Figure]:
    """Read the whole tables."""
    with open_patches(path) as patches:
        started = time.perf_counter()
        n = len(patches.table)
        seconds = time.perf_counter() - started
    return [
        Figure("patches", n, ""),
        Figure("all tables", seconds, "s"),
        Figure("file", path.stat().st_size / 1e6, "MB"),
    ]


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--folder", type=Path, help="where slide and files go, and stay.  [default: a temporary one]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (given.folder or Path(name)).resolve()
        slide = folder / "wide.tif"
        if not slide.exists():
            write_large_slide(slide, SIDE, texture_of(folder))
        figures = []
        for pixels in ("none", "stored"):
            where = folder / pixels
            where.mkdir(exist_ok=True)
            for sample in SAMPLES:
                figures += extract(slide, where, sample, pixels)
            path = where / "wide.patches.h5"
            figures += tables(path)
            figures += read(path, 400, decode=False)
        for group in GROUPS:
            figures += read(path, group, decode=True)
    report(figures, given.json)


if __name__ == "__main__":
    main()
