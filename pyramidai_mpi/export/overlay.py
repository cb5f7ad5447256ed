"""The picture everybody wants first: the heatmap over the slide's thumbnail, with a legend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from pyramidai_mpi.errors import InputError
from pyramidai_mpi.export.heatmap import paint_heatmap
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.slides.openslide_reader import OpenSlideReader
from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.store.placing import check_target, discard, place, storage_errors, temporary_name
from pyramidai_mpi.store.reader import open_result, read_levels

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.types import RgbArray

# Blue, yellow, red: score 0, 1/2, 1. Readable with the common colour-vision deficiencies, unlike green to red.
_COLOURS = np.array([[49, 54, 149], [254, 224, 144], [165, 0, 38]], np.float64)
_STRENGTH = 0.55
_LEGEND_HEIGHT = 28


@dataclass(frozen=True)
class _Drawing:
    heatmap: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    downsample: float
    positive_class: str


def write_overlay(result: Path, slide: Path, target: Path, *, overwrite: bool = False) -> None:
    """Draw a result over its slide and write a PNG.

    Parameters
    ----------
    result
        Result file.
    slide
        The slide it was made from.
    target
        PNG to write.
    overwrite
        Replace an existing file.

    Raises
    ------
    InputError
        When the result cannot be read, or the slide is another one than the result's.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    check_target(target, overwrite=overwrite, inputs=[result, slide])
    drawing = _read_drawing(result, slide)
    reader = OpenSlideReader(slide)
    try:
        thumbnail, _ = read_thumbnail(reader, drawing.downsample)
    finally:
        reader.close()
    picture = _with_legend(blend(thumbnail, drawing.heatmap, drawing.mask), drawing.positive_class)
    temporary = temporary_name(target)
    try:
        with storage_errors(temporary):
            picture.save(temporary, format="PNG", optimize=True)
            place(temporary, target, overwrite=overwrite)
    finally:
        discard(temporary)


def _read_drawing(result: Path, slide: Path) -> _Drawing:
    with open_result(result) as file:
        if not slide.is_file() or quickhash(slide) != file["slide"].attrs["quickhash"]:
            raise InputError(f"{slide}: is not the slide that {result} was made from ({file['slide'].attrs['name']})")
        model = file["model"].attrs
        mask = file["tissue/mask"][...].astype(bool)
        downsample = float(file["tissue/mask"].attrs["downsample"])
        l0_tile_side = float(model["tile_size"]) * float(file["levels/0"].attrs["downsample"])
        positive_class = str(model["positive_class"])
        heatmap = paint_heatmap(
            read_levels(file),
            (mask.shape[0], mask.shape[1]),
            positive_class=list(model["classes"]).index(positive_class),
            pixels_per_tile=round(l0_tile_side / downsample),
            scale_factor=int(model["scale_factor"]),
        )
    return _Drawing(heatmap, mask, downsample, positive_class)


def blend(thumbnail: RgbArray, heatmap: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> RgbArray:
    """Colour the tissue of a thumbnail (H, W, 3) by a heatmap (H, W) where it has a value."""
    shown = mask & np.isfinite(heatmap)
    position = np.clip(heatmap[shown].astype(np.float64), 0, 1)
    anchors = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(position, anchors, _COLOURS[:, channel]) for channel in range(3)], axis=1)
    blended = thumbnail.copy()
    blended[shown] = np.rint((1 - _STRENGTH) * thumbnail[shown] + _STRENGTH * colour).astype(np.uint8)
    return blended


def _with_legend(pixels: RgbArray, positive_class: str) -> Image.Image:
    height, width = pixels.shape[:2]
    picture = Image.new("RGB", (max(width, 240), height + _LEGEND_HEIGHT), (255, 255, 255))
    picture.paste(Image.fromarray(pixels), (0, 0))
    ramp = np.linspace(0, 1, 120)
    anchors = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(ramp, anchors, _COLOURS[:, channel]) for channel in range(3)], axis=1)
    bar = np.broadcast_to(colours.astype(np.uint8), (12, len(ramp), 3))
    picture.paste(Image.fromarray(np.ascontiguousarray(bar)), (20, height + 8))
    draw = ImageDraw.Draw(picture)
    draw.text((8, height + 8), "0", fill=(0, 0, 0))
    draw.text((144, height + 8), f"1  {positive_class}", fill=(0, 0, 0))
    return picture
