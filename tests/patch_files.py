"""Files of patches, made without ranks: as an extraction makes them of one slide."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from PIL import Image

from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.analyses.extract import Extract
from pyramidai_mpi.base.patch_order import PatchOrder
from pyramidai_mpi.base.settings import Regions, SlideInput
from pyramidai_mpi.pyramid.tissue import TissueSource, mask_downsample
from pyramidai_mpi.run.assemble import RANK_DTYPE
from pyramidai_mpi.run.cell_marks import files_of_cells, marks_of
from pyramidai_mpi.run.cells import open_cells, rule_of_cells, tissue_map_of, with_files
from pyramidai_mpi.run.patch_content import content_of
from pyramidai_mpi.store.patches.record import ImageStore, PatchSettings, PatchSlide, patch_table
from pyramidai_mpi.store.patches.writer import KeptImages, PatchContent, write_patches
from pyramidai_mpi.store.results.result import Execution
from pyramidai_mpi.store.results.seal import seal_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import openslide

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def order_of(size: int = 96, stride: int = 64, **others: Any) -> PatchOrder:
    """Patches of a small slide, at its level 0 unless another spacing is asked for."""
    return PatchOrder(size, stride, **({"level": 0} if "mpp" not in others else {}) | others)


def write_patches_of(
    slide: Path,
    path: Path,
    order: PatchOrder,
    mask: np.ndarray | None = None,
    mpp: float | None = None,
    change: Callable[[PatchContent], PatchContent] = lambda content: content,
) -> Path:
    """A file of a slide's patches; all of it is tissue unless a mask says where, bool of any shape over the slide.

    Its content may be changed before it is written: labelled, say.
    """
    opened = open_cells(SlideInput(slide, mpp, regions=Regions(no_tissue=True)), order)
    downsample = mask_downsample(opened.pyramid.grid)
    width, height = (int(np.ceil(extent / downsample)) for extent in opened.pyramid.reader.info.l0_size)
    whole = np.ones((height, width), bool)
    if mask is not None:
        rows, cols = (np.arange(n) * m // n for n, m in zip((height, width), mask.shape, strict=True))
        whole = mask[rows[:, None], cols[None]]
    source = with_files(TissueSource("test"), files_of_cells(slide, order))
    rule = rule_of_cells(opened, order, whole, source, marks_of(opened, order, tissue_map_of(opened, whole, source)))
    analysis = Extract(order).on(opened, rule)
    looks = [analysis.look(rule.roots())]
    while len(looks[-1].closer):
        looks.append(analysis.look(looks[-1].closer))
    records, failed = (np.concatenate([getattr(look, name) for look in looks]) for name in ("records", "failed"))
    kept = b"".join(look.kept for look in looks)
    content = content_of(opened, rule, order, records, failed, lambda place, length: kept[place : place + length])
    write_patches(path, change(content), Execution({"command_line": "test"}, np.zeros(1, RANK_DTYPE)), CREATED, "0.1.0")
    analysis.close()
    return path


def write_pictures_of(pictures: Sequence[bytes], path: Path, size: int, coding: str, quality: int = 0) -> Path:
    """A file of patches of no slide that is there, with these encoded pictures, in a row."""
    slide = PatchSlide("made.tif", "0" * 64, "generic-tiff", (max(len(pictures), 1) * size, size), 0.25)
    settings = PatchSettings(
        size, size, float("nan"), 0, 0.25, 1.0, 0, 1.0, 1.0, 0, 0, 0.0, "test", "[]", coding, 400, jpeg_quality=quality
    )  # fmt: skip
    index = np.stack([np.arange(len(pictures)), np.zeros(len(pictures), np.int64)], axis=1)
    table = patch_table(settings.grid(slide.l0_size), index, np.ones(len(pictures), np.float32))
    images = KeptImages(
        ImageStore(coding, quality), np.array([len(one) for one in pictures], np.int64), pictures.__getitem__
    )
    content = PatchContent(slide, settings, table, np.zeros(0, FAILED_DTYPE), len(pictures), None, images=images)
    write_patches(path, content, Execution({"command_line": "test"}, np.zeros(1, RANK_DTYPE)), CREATED, "0.1.0")
    return path


def resealed(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change a file and make its seal fit again, as who means harm would."""
    ranges = []
    with h5py.File(path, "r+") as file:
        change(file)
        for place in ("tiles/data", "images/data"):
            data = file.get(place, None)
            if isinstance(data, h5py.Dataset) and data.chunks is None and len(data.shape) == 1 and len(data):
                first = data.id.get_offset() or 0
                ranges += [(first, first + len(data))] if first else []
    seal_file(path, ranges)


def labelled(
    names: Sequence[str], label: Sequence[int], origin: Mapping[str, str] | None = None, **shares: Sequence[float]
) -> Callable[[PatchContent], PatchContent]:
    """A change of a file's content: labels and shares of its first patches, the rest unknown, and where it is from."""

    def change(content: PatchContent) -> PatchContent:
        patches = content.patches.copy()
        for column, values in ({"label": label} | shares).items():
            patches[column][: len(values)] = values
        return replace(
            content,
            patches=patches,
            settings=replace(content.settings, labels=json.dumps(list(names))),
            slide=content.slide if origin is None else replace(content.slide, origin=origin),
        )

    return change


def labelled_by(
    names: Sequence[str], label_of: Callable[[np.ndarray], np.ndarray]
) -> Callable[[PatchContent], PatchContent]:
    """A change of a file's content: labels as they follow from the table of patches."""
    return lambda content: labelled(names, label_of(content.patches).tolist())(content)


def read_by_openslide(slide: openslide.OpenSlide, l0_corner: tuple[int, int], level: int, size: int) -> np.ndarray:
    """A square region as OpenSlide reads it, on white."""
    region = slide.read_region(l0_corner, level, (size, size))
    white = Image.new("RGBA", region.size, (255, 255, 255, 255))
    white.alpha_composite(region)
    return np.asarray(white)[..., :3]
