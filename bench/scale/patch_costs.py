"""What one core pays for patches of a slide, measured by processor time and kept as JSON.

Used by `bench.scale.patches_on_paper`. One process, one thread, pages of the slide cached; files are flushed to the
disk and, where the program does so, read back.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import openslide

from bench.scale.tile_costs import machine, processor_seconds
from pyramidai_mpi.analyses.extract import Extract
from pyramidai_mpi.base.patch_order import PatchOrder
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.run.assemble import RANK_DTYPE
from pyramidai_mpi.run.cells import open_cells, rule_of_cells
from pyramidai_mpi.run.opening import tissue_of
from pyramidai_mpi.run.patch_content import content_of
from pyramidai_mpi.slides.readers.trial import try_opening
from pyramidai_mpi.store.patches.writer import write_patches
from pyramidai_mpi.store.results.result import Execution

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIZE, STRIDE, GROUP = 448, 224, 400
RAW_BYTES = 3 * SIZE**2


@dataclass(frozen=True)
class PatchCosts:
    """What was seen on one slide.

    Attributes
    ----------
    machine, slide, n_patches
        Where, on what, and how many patches.
    opening_s
        Seconds to open the slide, with its trial.
    tissue_s_per_gigapixel
        Seconds to find its tissue over its size at level 0.
    cell_s, row_bytes
        Seconds a patch to look at it and to write and check its row of the tables; bytes of such a file a patch.
    kept_tile_s, kept_tile_bytes
        Seconds and bytes a stored tile that is copied, flushed, read back and checked.
    decoded_s, openslide_s
        Seconds a patch to decode it, by this program group by group and by OpenSlide.
    written_s
        Seconds a patch to write its pixels into an uncompressed HDF5 file, and to flush it.
    """

    machine: str
    slide: str
    n_patches: int
    opening_s: float
    tissue_s_per_gigapixel: float
    cell_s: float
    row_bytes: float
    kept_tile_s: float
    kept_tile_bytes: float
    decoded_s: float
    openslide_s: float
    written_s: float

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> PatchCosts:
        """Read what `save` has written."""
        return cls(**json.loads(path.read_text()))


def measure_patch_costs(slide: Path, mpp: float | None, by_openslide: int = 400) -> PatchCosts:
    """Measure on a slide whose stored tiles can be kept.

    Parameters
    ----------
    slide, mpp
        The slide, and its µm per level-0 pixel, if it does not say.
    by_openslide
        How many patches OpenSlide decodes.
    """
    source = SlideInput(slide, mpp)
    opening: list[float] = []
    tissue: list[float] = []
    with processor_seconds(opening):
        with try_opening(slide, source.reader) as trial:
            trial.check()
        opened = open_cells(source, PatchOrder(SIZE, STRIDE, level=0, group=GROUP))
    with processor_seconds(tissue):
        mask, mask_source = tissue_of(opened)
    gigapixels = np.prod(opened.pyramid.reader.info.l0_size, dtype=float) / 1e9
    extraction: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for pixels in ("none", "stored"):
            order = PatchOrder(SIZE, STRIDE, level=0, group=GROUP, pixels=pixels)
            opened = open_cells(source, order)
            rule = rule_of_cells(opened, order, mask, mask_source)
            seconds: list[float] = []
            with processor_seconds(seconds):
                analysis = Extract(order).on(opened, rule)
                look = analysis.look(rule.roots())
                content = content_of(opened, rule, order, look.records, look.failed)
                execution = Execution({}, np.zeros(1, RANK_DTYPE))
                write_patches(Path(name) / f"{pixels}.patches.h5", content, execution, datetime.now(UTC), "bench")
            analysis.close()
            extraction[pixels] = seconds[0]
        n_bytes_none = (Path(name) / "none.patches.h5").stat().st_size
        decoded, written = _decode_and_write(Path(name) / "stored.patches.h5", Path(name) / "raw.h5")
        with open_patches(Path(name) / "stored.patches.h5") as patches:
            n, n_tiles, n_bytes = len(patches), patches.header.n_tiles, patches.header.tile_bytes
            some = np.unique(np.linspace(0, n - 1, by_openslide).astype(int))
            corners = [(int(x), int(y)) for x, y in patches.coords[some]]
    others: list[float] = []
    with processor_seconds(others):
        for _ in _by_openslide(slide, corners):
            pass
    return PatchCosts(
        machine=machine(),
        slide=slide.name,
        n_patches=n,
        opening_s=opening[0],
        tissue_s_per_gigapixel=tissue[0] / gigapixels,
        cell_s=extraction["none"] / n,
        row_bytes=n_bytes_none / n,
        kept_tile_s=(extraction["stored"] - extraction["none"]) / n_tiles,
        kept_tile_bytes=n_bytes / n_tiles,
        decoded_s=decoded / n,
        openslide_s=others[0] / len(corners),
        written_s=written / n,
    )


def _decode_and_write(path: Path, raw: Path) -> tuple[float, float]:
    """Processor seconds to decode all patches group by group, and to write them; one group is on the disk at a time."""
    decoded: list[float] = []
    written: list[float] = []
    with open_patches(path) as patches:
        room = np.ones((min(GROUP, len(patches)), SIZE, SIZE, 3), np.uint8)
        for number in range(patches.n_groups):
            with processor_seconds(decoded):
                group = patches.group(number, out=room)
            with processor_seconds(written):
                with h5py.File(raw, "w") as file:
                    file.create_dataset("t1/img", data=group)
                with raw.open("r+b") as file:
                    os.fsync(file.fileno())
            raw.unlink()
    return sum(decoded), sum(written)


def _by_openslide(slide: Path, corners: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    with openslide.OpenSlide(slide) as opened:
        for corner in corners:
            rgba = np.asarray(opened.read_region(corner, 0, (SIZE, SIZE)))
            yield np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])
