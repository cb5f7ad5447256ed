"""How soon `pyramidai view` shows something of a slide of 100352 x 100352 pixels, and what its server holds meanwhile.

    python -m bench.speed.view_pan [--pans N] [--folder DIR] [--json FILE]

The slide is made: JPEG tiles of 512 pixels, a generated one of 4096 x 4096 repeated, with all its reduced levels, so
that every tile is read and decoded as on a slide from a scanner. So is the result, in which all tiles of five levels
were analysed (see `bench.speed.exports`). A *pan* goes to a random place at a random zoom and asks for all view tiles
of a screen of 1440 x 900 over six connections, as a browser does; no two pans show the same place. Seconds are from
asking to the last byte; memory is the server's peak resident size. The slide lies in the page cache, as it was just
written.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import imagecodecs
import numpy as np
import tifffile

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.speed.exports import made_result, write_result
from pyramidai_mpi.slides.identity import quickhash

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOTS = 28
_TEXTURE, _STORED_TILE, _VIEW_TILE = 4096, 512, 512
_SCREEN = (1440, 900)
_CONNECTIONS = 6
_OPENING = ("", "view.js", "openseadragon.js", "result.json", "scores.png", "decisions", "tissue")


def write_large_slide(path: Path, side: int, texture: np.ndarray) -> None:
    """A pyramid of `side` pixels at 0.25 µm/px whose level 0 is the texture again and again."""
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        shrink = 1
        while side // shrink >= _STORED_TILE:
            repeats = max(1, _STORED_TILE // len(texture))
            block = np.tile(texture, (repeats, repeats, 1))
            n = len(block) // _STORED_TILE
            encoded = [
                [
                    imagecodecs.jpeg8_encode(
                        np.ascontiguousarray(block[_at(row), _at(col)]), level=80, subsampling="420"
                    )
                    for col in range(n)
                ]
                for row in range(n)
            ]
            extent = side // shrink
            per_side = -(-extent // _STORED_TILE)

            def tiles(encoded: list[list[bytes]] = encoded, n: int = n, per_side: int = per_side) -> Iterator[bytes]:
                for place in range(per_side**2):
                    yield encoded[place // per_side % n][place % per_side % n]

            um_px = 0.25 * shrink
            tiff.write(
                tiles(),
                shape=(extent, extent, 3),
                dtype=np.uint8,
                tile=(_STORED_TILE, _STORED_TILE),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=1 if shrink > 1 else 0,
                resolution=(1e4 / um_px, 1e4 / um_px),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            shrink *= 2
            half = texture.reshape(len(texture) // 2, 2, len(texture) // 2, 2, 3).mean(axis=(1, 3))
            texture = np.rint(half).astype(np.uint8)


def _at(number: int) -> slice:
    return slice(number * _STORED_TILE, (number + 1) * _STORED_TILE)


def texture_of(folder: Path) -> np.ndarray:
    """A generated slide of `_TEXTURE` pixels, uint8 (H, W, 3)."""
    path = folder / "texture.tif"
    size = f"{_TEXTURE}x{_TEXTURE}"
    subprocess.run(
        [sys.executable, "-m", "pyramidai_mpi", "synth", path, "--size", size, "--seed", "1"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return tifffile.imread(path, key=0)


class Browser:
    """Six connections to a server."""

    def __init__(self, address: str) -> None:
        where = urlsplit(address)
        self._path = where.path
        self._connections = [http.client.HTTPConnection(where.netloc, timeout=60) for _ in range(_CONNECTIONS)]

    def ask(self, wanted: list[str]) -> tuple[list[float], int]:
        """Seconds after which each of them was there, in the order in which they came, and all their bytes."""
        left, seconds, sizes, failed = list(reversed(wanted)), [], [], []
        started = time.perf_counter()

        def work(connection: http.client.HTTPConnection) -> None:
            while left:
                try:
                    connection.request("GET", self._path + left.pop())
                    answer = connection.getresponse()
                    sizes.append(len(answer.read()))
                    seconds.append(time.perf_counter() - started)
                    if answer.status != 200:
                        failed.append(answer.status)
                except IndexError:
                    return

        threads = [threading.Thread(target=work, args=(one,)) for one in self._connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed or len(seconds) != len(wanted):
            raise RuntimeError(f"of {wanted} came {len(seconds)}, refused {failed}")
        return seconds, sum(sizes)


def pan(rng: np.random.Generator, side: int) -> list[str]:
    """View tiles of a screen at a random place and zoom."""
    zoom = int(rng.integers(0, 8))
    extent = side >> zoom
    left, top = (int(rng.integers(0, max(1, extent - screen))) for screen in _SCREEN)
    right, bottom = min(left + _SCREEN[0], extent), min(top + _SCREEN[1], extent)
    return [
        f"slide/{zoom}/{col}_{row}"
        for row in range(top // _VIEW_TILE, -(-bottom // _VIEW_TILE))
        for col in range(left // _VIEW_TILE, -(-right // _VIEW_TILE))
    ]


def peak_mb(pid: int) -> float:
    """Peak resident size of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def measure(folder: Path, n_pans: int) -> list[Figure]:
    """Make slide and result where they are missing, start the server, and pan."""
    slide, result = folder / "large.tif", folder / "large.h5"
    made = made_result(_ROOTS, _ROOTS)
    side = made.slide.l0_size[0]
    if not slide.exists():
        write_large_slide(slide, side, texture_of(folder))
    if not result.exists():
        write_result(result, replace(made, slide=replace(made.slide, name=slide.name, quickhash=quickhash(slide))))
    n_tiles = sum(len(level) for level in made.tree.levels.values())
    del made
    setting = {"side": side, "tiles": n_tiles, "slide MB": round(slide.stat().st_size / 1e6)}
    started = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "pyramidai_mpi", "view", result, "--no-browser"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    try:
        address = server.stdout.readline().split()[0]
        opened_s = time.perf_counter() - started
        browser = Browser(address)
        seconds, size = browser.ask(list(_OPENING))
        page_s = seconds[-1]
        rng = np.random.default_rng(7)
        first, last = [], []
        for _ in range(n_pans):
            seconds, _ = browser.ask(pan(rng, side))
            first.append(seconds[0])
            last.append(seconds[-1])
        return [
            Figure("command to address", opened_s, "s", setting),
            Figure("page with all its tables", page_s, "s", {"MB": round(size / 1e6, 2)}),
            Figure("pan to first tile, median", float(np.median(first)), "s", {"pans": n_pans}),
            Figure("pan to first tile, 99th percentile", float(np.percentile(first, 99)), "s"),
            Figure("pan to first tile, longest", max(first), "s"),
            Figure("pan to last tile, median", float(np.median(last)), "s"),
            Figure("pan to last tile, 99th percentile", float(np.percentile(last, 99)), "s"),
            Figure("peak memory of the server", peak_mb(server.pid), "MB"),
        ]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--pans", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None, help="keep slide and result here, and use them again")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        report(measure(arguments.folder, arguments.pans), arguments.json)
        return
    with tempfile.TemporaryDirectory() as name:
        report(measure(Path(name), arguments.pans), arguments.json)


if __name__ == "__main__":
    main()
