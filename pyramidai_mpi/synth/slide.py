"""Write a generated slide: bands of blocks painted by threads, streamed into a pyramidal TIFF with its ground truth."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from pyramidai_mpi.base.errors import OutputExistsError, StorageError, UsageError
from pyramidai_mpi.synth.plan import draw_plan
from pyramidai_mpi.synth.polygons import nucleus_json, to_geojson
from pyramidai_mpi.synth.pyramid import LowerLevel, encode_tile, halve, level_sizes
from pyramidai_mpi.synth.render import Painter
from pyramidai_mpi.synth.spec import BLOCK, Region, SynthSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    U8 = NDArray[np.uint8]

_BIGTIFF_PIXELS = 2_000_000_000
"""Slides above this are BigTIFF: tissue at quality 100 takes up to 1.5 bytes a pixel, classic TIFF ends at 4 GiB."""


@dataclass(frozen=True)
class WrittenSlide:
    """What was written.

    Attributes
    ----------
    path, truth_path
        The slide and its tumour outlines.
    regions
        These.
    level_sizes
        Width and height of the stored levels.
    nuclei_path, n_nuclei
        Outlines of its nuclei and their number, where they were asked for.
    """

    path: Path
    truth_path: Path
    regions: tuple[Region, ...]
    level_sizes: tuple[tuple[int, int], ...]
    nuclei_path: Path | None = None
    n_nuclei: int = 0


@dataclass(frozen=True)
class _PaintedBlock:
    tiles: list[bytes]
    shrunk: list[U8]


def write_slide(
    spec: SynthSpec,
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    nuclei: bool = False,
) -> WrittenSlide:
    """Generate a slide as pyramidal tiled JPEG TIFF, and its tumour outlines beside it as GeoJSON.

    The bytes depend on `spec` alone. Memory grows with the width, and not with the height but for the coarse plan (10
    bytes per 1000 pixels of area): 413 MB were seen for a slide of 100000 x 2048, painted by two threads.

    Parameters
    ----------
    spec
        What to generate.
    path
        The TIFF to write; the truth goes to the same name with suffix ``.geojson``. Both appear when complete.
    progress
        Called with (blocks done, blocks in all) after each band, from the calling thread.
    threads
        Threads that paint and encode; the machine's usable cores by default.
    overwrite
        Replace files that exist.
    nuclei
        Write the outlines of all nuclei too, to the slide's name with suffix ``.nuclei.geojson``: detections in level-0
        pixels of class ``tumor nucleus``, ``lymphocyte nucleus``, ``spindle nucleus``, ``epithelial nucleus`` and
        ``blast nucleus``. They overlap where nuclei do; the darker one is then the one to be seen.

    Raises
    ------
    UsageError
        When the slide is to be called ``.geojson``.
    OutputExistsError
        When one of the files exists and `overwrite` is false.
    StorageError
        When the disk refuses.
    """
    target = Path(path)
    truth = target.with_suffix(".geojson")
    if truth == target:
        raise UsageError(f"{target}: is the name of the slide's truth; call the slide {target.stem}.tif")
    outlines = target.with_suffix(".nuclei.geojson") if nuclei else None
    if not overwrite:
        for existing in filter(None, (target, truth, outlines)):
            if existing.exists():
                raise OutputExistsError(f"{existing}: exists; choose another name or ask to overwrite")
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    n_nuclei = 0
    plan = draw_plan(spec)
    sizes = level_sizes(spec.width, spec.height)
    try:
        with contextlib.ExitStack() as open_files:
            lower = [
                LowerLevel(size, 2 << k, spec.tile_size, spec.quality, _glass_of(plan.stain.glass), target.parent)
                for k, size in enumerate(sizes[1:])
            ]
            for level in lower:
                open_files.callback(level.close)
            workers = threads or len(os.sched_getaffinity(0))
            pool = open_files.enter_context(ThreadPoolExecutor(workers))
            bands = _Bands(spec, Painter(plan), lower, pool, workers, progress)
            tiff = open_files.enter_context(
                tifffile.TiffWriter(partial, bigtiff=spec.width * spec.height > _BIGTIFF_PIXELS)
            )
            _write_level(tiff, spec, sizes[0], 1, bands.tiles())
            for k, level in enumerate(lower):
                _write_level(tiff, spec, level.size, 2 << k, level.tiles())
        truth.write_text(to_geojson(plan.regions), encoding="utf-8")
        partial.replace(target)
        if outlines is not None:
            n_nuclei = _write_nuclei(spec, Painter(plan), partial)
            partial.replace(outlines)
    except OSError as error:
        raise StorageError(f"{target}: cannot write the slide ({error}); check the folder and its space") from error
    finally:
        partial.unlink(missing_ok=True)
    return WrittenSlide(target, truth, plan.regions, tuple(sizes), outlines, n_nuclei)


def _write_nuclei(spec: SynthSpec, painter: Painter, path: Path) -> int:
    """Write all nuclei, block by block, a line each: a slide may hold millions."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        for row in range(-(-spec.height // BLOCK)):
            for col in range(-(-spec.width // BLOCK)):
                for kind, outline in painter.nuclei(row, col):
                    file.write((",\n" if written else "\n") + nucleus_json(kind.name.lower(), outline))
                    written += 1
        file.write("\n]}\n")
    return written


def _glass_of(glass: NDArray[np.float32]) -> U8:
    return np.rint(glass).astype(np.uint8)


def _write_level(tiff: Any, spec: SynthSpec, size: tuple[int, int], shrink: int, tiles: Iterator[bytes]) -> None:
    per_cm = 1e4 / (spec.mpp * shrink)
    tiff.write(
        tiles,
        shape=(size[1], size[0], 3),
        dtype=np.uint8,
        tile=(spec.tile_size, spec.tile_size),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": spec.quality},
        subsampling=(2, 2),
        # OpenSlide takes directories marked as reduced for levels, and µm per pixel from the resolution
        subfiletype=1 if shrink > 1 else 0,
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        metadata=None,
        software=False,
    )


class _Bands:
    """Rows of blocks in order, painted ahead by a pool."""

    def __init__(
        self,
        spec: SynthSpec,
        painter: Painter,
        lower: list[LowerLevel],
        pool: ThreadPoolExecutor,
        workers: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._spec, self._painter, self._lower, self._pool = spec, painter, lower, pool
        self._ahead = 3 * workers
        self._progress = progress
        self._rows, self._cols = -(-spec.height // BLOCK), -(-spec.width // BLOCK)
        self._per_block = BLOCK // spec.tile_size
        blank: U8 = np.empty((spec.tile_size, spec.tile_size, 3), np.uint8)
        blank[:] = painter.glass
        self._blank = encode_tile(blank, spec.quality)

    def tiles(self) -> Iterator[bytes]:
        """Encoded full-resolution tiles, row-major; fills the lower levels on the way."""
        places = ((row, col) for row in range(self._rows) for col in range(self._cols))
        queue: deque[Future[_PaintedBlock | None]] = deque()
        tile_cols = -(-self._spec.width // self._spec.tile_size)
        tile_rows = -(-self._spec.height // self._spec.tile_size)
        for row in range(self._rows):
            band: list[list[bytes]] = [[] for _ in range(self._per_block)]
            for col in range(self._cols):
                while len(queue) < self._ahead and (place := next(places, None)) is not None:
                    queue.append(self._pool.submit(self._block, *place))
                self._collect(queue.popleft().result(), col, band)
            for level in self._lower:
                level.end_band(last=row == self._rows - 1)
            # before the tiles: the writer does not come back after the last one
            if self._progress is not None:
                self._progress((row + 1) * self._cols, self._rows * self._cols)
            for k, line in enumerate(band):
                if row * self._per_block + k < tile_rows:
                    yield from line[:tile_cols]

    def _collect(self, block: _PaintedBlock | None, col: int, band: list[list[bytes]]) -> None:
        for k, line in enumerate(band):
            if block is None:
                line += [self._blank] * self._per_block
            else:
                line += block.tiles[k * self._per_block : (k + 1) * self._per_block]
        if block is not None:
            for level, part in zip(self._lower, block.shrunk, strict=True):
                level.place(col, part)

    def _block(self, row: int, col: int) -> _PaintedBlock | None:
        image = self._painter.paint(row, col)
        if image is None:
            return None
        side = self._spec.tile_size
        tiles = [
            encode_tile(image[y : y + side, x : x + side], self._spec.quality)
            for y in range(0, BLOCK, side)
            for x in range(0, BLOCK, side)
        ]
        shrunk = []
        for _ in self._lower:
            image = halve(image)
            shrunk.append(image)
        return _PaintedBlock(tiles, shrunk)
