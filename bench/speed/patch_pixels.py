"""What the ways to keep the pixels of patches cost: bytes, CPU seconds of the real command, and of reading.

    python -m bench.speed.patch_pixels [SLIDE] [--mpp X] [--sample dense|random:N] [--ranks N] [--json FILE]

All cells with tissue have patches of 448 px at stride 224, extracted with `patches extract --pixels none`, `stored`,
`jpeg:90` and `raw`, one after the other. CPU seconds are those of the command and all that it starts, user and system,
with the start of Python, the trial of the slide and the search for tissue, which `none` shows alone; they count the
journal, the file, its flush to the disk and its reading back too. Then all groups of each file are read, into one
array. Patches kept raw are held against those of the stored tiles, by SHA-256. The disk needs room for three times the
raw patches: TMPDIR says where.
"""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.speed.patches import GROUP, SIZE, SLIDE, STRIDE
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.store.patches.record import patch_file

WAYS = ("none", "stored", "jpeg:90", "raw")


def extract(slide: Path, mpp: float, sample: str, pixels: str, folder: Path, ranks: int) -> tuple[float, float]:
    """CPU and wall seconds of the command."""
    words = ["patches", "extract", str(slide), "--size", str(SIZE), "--stride", str(STRIDE), "--level", "0"]
    words += ["--slide-mpp", str(mpp), "--sample", sample, "--pixels", pixels, "--group", str(GROUP), "-o", str(folder)]
    words += ["--ranks", str(ranks)] if ranks > 1 else []
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "pyramidai_mpi", *words, "-q"], check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def read(path: Path) -> tuple[float, int, str]:
    """CPU seconds to read all groups, number of patches, and SHA-256 of all pixels."""
    import numpy as np

    spent, digest, room = 0.0, hashlib.sha256(), np.zeros((GROUP, SIZE, SIZE, 3), np.uint8)
    with open_patches(path) as patches:
        for number in range(patches.n_groups):
            started = time.process_time()
            group = patches.group(number, out=room)
            spent += time.process_time() - started
            digest.update(group)
        return spent, len(patches), digest.hexdigest()


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slide", type=Path, nargs="?", default=SLIDE, help="a slide whose stored tiles can be kept")
    parser.add_argument("--mpp", type=float, default=0.25, help="µm per level-0 pixel")
    parser.add_argument("--sample", default="dense", help="dense or random:N")
    parser.add_argument("--ranks", type=int, default=1, help="of the command")
    arguments = parser.parse_args()
    figures, cpu, pixels = [], {}, {}
    for way in WAYS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            cpu[way], wall = extract(
                arguments.slide, arguments.mpp, arguments.sample, way, folder, max(arguments.ranks, 1)
            )
            path = folder / patch_file(arguments.slide)
            n_bytes = path.stat().st_size
            setting = {"pixels": way, "ranks": arguments.ranks, "load": round(os.getloadavg()[0], 1)}
            figures.append(Figure("file", n_bytes / 1e6, "MB", setting))
            figures.append(Figure("extraction", cpu[way], "CPU s", setting))
            figures.append(Figure("extraction, wall", wall, "s", setting))
            if way != "none":
                seconds, n, pixels[way] = read(path)
                figures.append(Figure("a patch", n_bytes / n, "bytes", setting))
                figures.append(Figure("reading by groups", seconds, "CPU s", setting))
    figures.append(Figure("patches", n, ""))
    figures.append(Figure("raw over stored, extraction", cpu["raw"] / cpu["stored"], "times"))
    figures.append(Figure("jpeg:90 over stored, extraction", cpu["jpeg:90"] / cpu["stored"], "times"))
    figures.append(Figure("raw patches equal those of stored tiles", float(pixels["raw"] == pixels["stored"]), ""))
    report(figures, arguments.json)


if __name__ == "__main__":
    main()
