"""Damage the directories of a slide at random, and see that nothing but a trial dies of it.

    python -m bench.faults.slide_fuzz [--damages 2000] [--seed 0]

A small pyramidal JPEG TIFF gets one or two bytes of its directories changed (tags, types, counts, offsets, tables of
tile places and lengths), as seed and number decide. A first process opens it and looks at each level, as a run's trial
does. What it survives a second one reads whole, as ranks do: the thumbnail and every tile of every stored level.
Counted are files *refused* in one line, *trials that died*, files that were *read* (tiles of them maybe unreadable),
and *ranks that died*, which must not be.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from bench.command_line import command_line
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.synth import SynthSpec, write_slide

if TYPE_CHECKING:
    from collections.abc import Callable

_SIDE = 224
_MEMORY_BYTES = 8 << 30
_SECONDS = 60
_OK, _REFUSED = 0, 65


def directory_bytes(path: Path) -> list[int]:
    """Places of all bytes of a TIFF that are no pixels."""
    places = list(range(8))
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            places += range(page.offset, page.offset + 2 + 12 * len(page.tags) + 4)
            for tag in page.tags.values():
                places += range(tag.valueoffset, tag.valueoffset + tag.valuebytecount)
    return sorted(set(places))


def damaged(data: bytes, places: list[int], seed: int, number: int) -> bytes:
    """One bit flipped, and in every other file another byte overwritten."""
    rng = np.random.default_rng([seed, number])
    changed = bytearray(data)
    changed[rng.choice(places)] ^= 1 << int(rng.integers(8))
    if number % 2:
        changed[rng.choice(places)] = int(rng.choice([0, 255, rng.integers(256)]))
    return bytes(changed)


def look(path: Path) -> None:
    """What a run's trial does."""
    slide = open_slide(path)
    width, height = slide.info.l0_size
    for stored_level in range(len(slide.info.stored_sizes)):
        _read(slide, (width // 2, height // 2), stored_level, 1)


def read_all(path: Path) -> None:
    """What ranks do."""
    slide = open_slide(path)
    read_thumbnail(slide, 32.0)
    for stored_level, (width, height) in enumerate(slide.info.stored_sizes):
        downsample = slide.info.stored_downsamples[stored_level]
        for y in range(0, min(height, 4000), _SIDE):
            for x in range(0, min(width, 4000), _SIDE):
                _read(slide, (int(x * downsample), int(y * downsample)), stored_level, _SIDE)


def _read(slide, l0_corner: tuple[int, int], stored_level: int, side: int) -> None:  # type: ignore[no-untyped-def]
    try:
        slide.read(l0_corner, stored_level, (side, side))
    except UnreadableRegionError:
        return


def end_of(work: Callable[[Path], None], path: Path) -> int:
    """How a process of its own ended: 0, 65 for a refusal, 1 for another error, negative for a signal."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        signal.alarm(_SECONDS)
        code = _OK
        try:
            work(path)
        except InputError:
            code = _REFUSED
        except BaseException:
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Damage slides and print what became of them."""
    parser = command_line(__doc__)
    parser.add_argument("--damages", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound.tif"
        write_slide(SynthSpec(512, 384, seed=0), sound)
        data, places = sound.read_bytes(), directory_bytes(sound)
        path = Path(folder) / "damaged.tif"
        for number in range(given.damages):
            path.write_bytes(damaged(data, places, given.seed, number))
            first = end_of(look, path)
            second = end_of(read_all, path) if first == _OK else _OK
            kind = "refused" if first == _REFUSED else "trials that died" if first else "read"
            if second not in (_OK, _REFUSED):
                kind = "RANKS THAT DIED"
                print(f"  number {number}: a rank ended with {second}")
            counts[kind] += 1
    print(f"{given.damages} damages (seed {given.seed}), {time.perf_counter() - started:.0f} s: {dict(counts)}")
    sys.exit(1 if counts["RANKS THAT DIED"] else 0)


if __name__ == "__main__":
    main()
