"""Patches of a slide: bytes and CPU seconds of a file that keeps stored tiles, beside raw pixels and OpenSlide.

    python -m bench.speed.patches [SLIDE] [--mpp X] [--patches N] [--json FILE]

The first N cells with tissue have patches of 448 px at stride 224, as Li, Mikailov and Chen 2023 have them. They are
extracted with stored tiles, and once more decoded by OpenSlide into an uncompressed HDF5 file as theirs; then read
group by group from the former, and by OpenSlide from the slide. Every patch is compared. Seconds are of one thread's
CPU, with the flush to the disk and the reading back that end an extraction. A file of a million patches:
`bench.speed.many_patches`.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench.command_line import command_line
from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

import h5py  # noqa: E402
import numpy as np  # noqa: E402 - reads the environment when it is loaded
import openslide  # noqa: E402

from bench.figures import Figure, report  # noqa: E402
from pyramidai_mpi.analyses.extract import Extract  # noqa: E402
from pyramidai_mpi.base.patch_order import PatchOrder  # noqa: E402
from pyramidai_mpi.base.settings import SlideInput  # noqa: E402
from pyramidai_mpi.patches.database import open_patches  # noqa: E402
from pyramidai_mpi.run.assemble import RANK_DTYPE  # noqa: E402
from pyramidai_mpi.run.cells import open_cells, rule_of_cells  # noqa: E402
from pyramidai_mpi.run.opening import tissue_of  # noqa: E402
from pyramidai_mpi.run.patch_content import content_of  # noqa: E402
from pyramidai_mpi.store.patches.writer import write_patches  # noqa: E402
from pyramidai_mpi.store.results.result import Execution  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

SLIDE = Path(__file__).resolve().parents[3] / "shared/data/slides/insidious-lymph-node-metastasis-HE.tif"
SIZE, STRIDE, GROUP = 448, 224, 400
EXECUTION = Execution({}, np.zeros(1, RANK_DTYPE))


class Clock:
    """Wall and CPU seconds since it was started."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        """Both."""
        return time.perf_counter() - self._started[0], time.process_time() - self._started[1]


def extract_stored(slide: Path, mpp: float, n: int, path: Path) -> tuple[float, float]:
    """Seconds to extract the first n patches with stored tiles; finding the tissue is left out."""
    order = PatchOrder(SIZE, STRIDE, level=0, group=GROUP)
    opened = open_cells(SlideInput(slide, mpp), order)
    rule = rule_of_cells(opened, order, *tissue_of(opened))
    clock = Clock()
    analysis = Extract(order).on(opened, rule)
    look = analysis.look(rule.roots()[:n])
    write_patches(
        path, content_of(opened, rule, order, look.records, look.failed), EXECUTION, datetime.now(UTC), "bench"
    )
    seconds = clock.seconds()
    analysis.close()
    return seconds


def by_openslide(slide: Path, corners: list[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Patches as OpenSlide reads them, all within the slide or on white."""
    with openslide.OpenSlide(slide) as opened:
        for corner in corners:
            rgba = np.asarray(opened.read_region(corner, 0, (SIZE, SIZE)))
            yield np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])


def extract_raw(slide: Path, corners: list[tuple[int, int]], path: Path) -> tuple[float, float]:
    """Seconds to decode patches with OpenSlide into groups of an uncompressed HDF5 file."""
    clock = Clock()
    with h5py.File(path, "w") as file:
        pixels = by_openslide(slide, corners)
        for number, first in enumerate(range(0, len(corners), GROUP), 1):
            group = np.stack([next(pixels) for _ in corners[first : first + GROUP]])
            file.create_dataset(f"t{number}/img", data=group)
    return clock.seconds()


def compare(slide: Path, path: Path) -> tuple[tuple[float, float], tuple[float, float], bool]:
    """Seconds to read all patches from their file, group by group, and by OpenSlide; whether they are equal."""
    ours, theirs = hashlib.sha256(), hashlib.sha256()
    spent, room = np.zeros(2), np.ones((GROUP, SIZE, SIZE, 3), np.uint8)  # ones: its pages are there
    clock = Clock()
    patches = open_patches(path)
    spent += clock.seconds()
    for number in range(patches.n_groups):
        clock = Clock()
        group = patches.group(number, out=room)
        spent += clock.seconds()
        ours.update(group.tobytes())
    others = np.zeros(2)
    reading = by_openslide(slide, [tuple(corner) for corner in patches.coords.tolist()])
    for _ in range(len(patches)):
        clock = Clock()
        pixels = next(reading)
        others += clock.seconds()
        theirs.update(pixels.tobytes())
    patches.close()
    return tuple(spent), tuple(others), ours.digest() == theirs.digest()


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slide", type=Path, nargs="?", default=SLIDE, help="a slide whose stored tiles can be kept")
    parser.add_argument("--mpp", type=float, default=0.25, help="µm per level-0 pixel")
    parser.add_argument("--patches", type=int, default=1600, help="how many")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "slide.patches.h5"
        stored_s = extract_stored(arguments.slide, arguments.mpp, arguments.patches, path)
        with open_patches(path) as patches:
            corners = [tuple(corner) for corner in patches.coords.tolist()]
        raw_s = extract_raw(arguments.slide, corners, folder / "raw.h5")
        reading_s, openslide_s, are_equal = compare(arguments.slide, path)
        stored, raw = path.stat().st_size, (folder / "raw.h5").stat().st_size
        (folder / "raw.h5").unlink()
    n = len(corners)
    figures = [
        Figure("patches", n, ""),
        Figure("all equal to OpenSlide's", float(are_equal), ""),
        Figure("stored", stored / n, "bytes a patch"),
        Figure("raw", raw / n, "bytes a patch"),
        Figure("raw over stored", raw / stored, "times"),
        Figure("extraction, stored", stored_s[1], "CPU s"),
        Figure("extraction, raw", raw_s[1], "CPU s"),
        Figure("extraction, raw over stored", raw_s[1] / stored_s[1], "times"),
        Figure("reading by groups into one array, stored", reading_s[1], "CPU s"),
        Figure("reading, OpenSlide", openslide_s[1], "CPU s"),
        Figure("reading, OpenSlide over stored", openslide_s[1] / reading_s[1], "times"),
    ]
    report(figures, arguments.json)


if __name__ == "__main__":
    main()
