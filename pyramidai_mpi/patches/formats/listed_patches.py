"""A file of patches made of a list of their corners on a slide."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError, input_errors
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.base.odd_levels import INTERPOLATED
from pyramidai_mpi.base.patch_order import PatchOrder
from pyramidai_mpi.base.types import FAILED_DTYPE
from pyramidai_mpi.export.coordinate_file import nominal_magnification
from pyramidai_mpi.patches.formats.foreign_coordinates import clam_geometry, read_coordinates, trident_geometry
from pyramidai_mpi.patches.formats.placing import place_imported
from pyramidai_mpi.slides.encoded_tiles import EncodedTiles
from pyramidai_mpi.slides.identity import slide_quickhash
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.readers.tile_codecs import encode_jpeg
from pyramidai_mpi.slides.readers.trial import try_opening
from pyramidai_mpi.slides.resample import resample, source_range
from pyramidai_mpi.slides.spacing import LevelPlan, overruled
from pyramidai_mpi.store.files.byte_spool import ByteSpool
from pyramidai_mpi.store.patches.record import (
    IMAGE_CODINGS,
    PLACES,
    ImageStore,
    PatchSettings,
    PatchSlide,
    TileStore,
    listed_table,
    origin_of,
)
from pyramidai_mpi.store.patches.writer import KeptImages, KeptTiles, PatchContent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.patches.formats.foreign_coordinates import Coordinates, PatchGeometry
    from pyramidai_mpi.slides.readers.base import SlideInfo, SlideReader

_GEOMETRY: Mapping[str, Callable[[Coordinates, SlideInfo], PatchGeometry]] = {
    "clam": clam_geometry,
    "trident": trident_geometry,
}
_TITLES = {"clam": "CLAM", "trident": "TRIDENT"}


@dataclass(frozen=True)
class ImportOptions:
    """How coordinates are made into a file of patches.

    Attributes
    ----------
    kind
        Whose they are: ``clam`` or ``trident``.
    pixels
        One of `base.patch_order.PIXELS`.
    jpeg_quality
        Of ``jpeg``, 1 to 100; 0 for the others.
    group
        Patches in a group.
    mpp
        µm per level-0 pixel, where slides do not say or are wrong; None takes what they say.
    command_line
        As it was called.
    """

    kind: str
    pixels: str
    jpeg_quality: int
    group: int
    mpp: float | None
    command_line: str


def import_coordinates(
    path: Path, slide: Path, target: Path, options: ImportOptions, *, overwrite: bool
) -> tuple[list[str], int]:
    """Make a file of patches of coordinates and their slide; what there is to say of it, and how many are unreadable.

    Parameters
    ----------
    path, slide, target
        File of coordinates, slide, and file to make.

    Raises
    ------
    InputError
        When coordinates or slide cannot be read, do not fit each other, or pixels cannot be kept as asked.
    OutputExistsError, StorageError
        When the file is in the way or cannot be written.
    """
    found = read_coordinates(path)
    odd_levels = INTERPOLATED  # as the program read them whose coordinates these are
    with try_opening(slide, "auto", odd_levels) as trial:
        trial.check()
    reader = open_slide(slide, "auto", odd_levels=odd_levels)
    try:
        geometry = _GEOMETRY[options.kind](found, reader.info)
        with ByteSpool(target.parent) as spool:
            content, facts = _content(found, reader, geometry, options, spool)
            place_imported(target, content, facts, [path, slide], overwrite)
    finally:
        reader.close()
    n, n_failed = len(content.patches), len(content.failed)
    unreadable = f"; {n_failed} unreadable, listed in /failed" if n_failed else ""
    lines = [f"{slide.name}: {n} patches of {_TITLES[options.kind]}'s coordinates{unreadable}: {target}"]
    if given_other := overruled(reader.info.mpp, options.mpp):
        lines.append(f"  {given_other}")
    if geometry.source_size != geometry.size and content.images is not None:
        lines.append(
            f"  shrunk by area from {geometry.source_size} px of stored level {geometry.stored_level}; "
            f"{_TITLES[options.kind]} interpolates"
        )
    said, power = found.numbers.get("level0_magnification"), nominal_magnification(content.slide.mpp)
    if options.kind == "trident" and said != power:
        lines.append(
            f"  TRIDENT took the slide for {said:g}x, where {content.slide.mpp:g} µm/px are {power}x: its patches have "
            f"{content.settings.spacing:.4g} µm/px here"
        )
    return lines, n_failed


def _content(
    found: Coordinates, reader: SlideReader, geometry: PatchGeometry, options: ImportOptions, spool: ByteSpool
) -> tuple[PatchContent, dict[str, str | int | float]]:
    """Everything that the file is to hold, and how it came about."""
    info = reader.info
    mpp = options.mpp or info.mpp
    if mpp is None:
        raise InputError(
            f"{info.path}: {info.mpp_flaw or 'does not say how large its pixels are'}; give µm per level-0 pixel with "
            "--slide-mpp"
        )
    settings = _settings(found, geometry, options, mpp)
    table = listed_table(settings, info.l0_size, found.l0_corners)
    off = int((table["inside"] == 0).sum())
    if off:
        raise InputError(
            f"{found.path}: {off} of its {len(table)} patches lie off {info.path}; give the slide that it was made of"
        )
    with input_errors(info.path):
        slide_hash = slide_quickhash(info.path)
    kept, images = None, None
    reasons: dict[int, str] = {}
    if options.pixels == "stored":
        tiles = _encoded_tiles(found, reader, settings)
        corners = found.l0_corners // round(settings.stored_downsample)
        reasons = _defects(tiles, corners, settings.size)
        readable = _readable(len(table), reasons)
        kept = _kept(tiles, corners[readable], settings.size)
    elif options.pixels in IMAGE_CODINGS:
        lengths, reasons = _spooled(reader, geometry, found.l0_corners, options.jpeg_quality, spool)
        images = _images(ImageStore(options.pixels, options.jpeg_quality), lengths, spool)
    if reasons:
        table = listed_table(settings, info.l0_size, found.l0_corners[_readable(len(table), reasons)])
    content = PatchContent(
        PatchSlide(info.name, slide_hash, info.vendor, info.l0_size, mpp, origin_of(info.name)),
        settings,
        table,
        _failed(reasons),
        len(found.l0_corners),
        kept,
        images=images,
    )
    facts: dict[str, str | int | float] = {
        "command_line": options.command_line,
        "imported_from": found.path.name,
        "reader": info.reader,
    }
    return content, facts


def _readable(n: int, reasons: Mapping[int, str]) -> npt.NDArray[np.int64]:
    """Numbers of the patches that can be read."""
    return np.setdiff1d(np.arange(n), np.fromiter(reasons, np.int64, len(reasons)))


def _settings(found: Coordinates, geometry: PatchGeometry, options: ImportOptions, mpp: float) -> PatchSettings:
    # where half the overlap is no whole pixel, a patch's cell is its window
    stride = geometry.size - geometry.overlap if geometry.overlap % 2 == 0 else geometry.size
    try:
        PatchOrder(
            geometry.size,
            stride,
            level=0,
            pixels=options.pixels,
            group=options.group,
            jpeg_quality=options.jpeg_quality,
        )
    except UsageError as error:
        raise InputError(f"{found.path}: {error}") from error
    digest = file_sha256(found.path)
    is_level = geometry.ratio == 1
    return PatchSettings(
        size=geometry.size,
        stride=stride,
        asked_mpp=math.nan if is_level else mpp * geometry.downsample,
        asked_level=geometry.stored_level if is_level else -1,
        spacing=mpp * geometry.downsample,
        downsample=geometry.downsample,
        stored_level=geometry.stored_level,
        stored_downsample=geometry.stored_downsample,
        ratio=geometry.ratio,
        n_random=0,
        seed=0,
        min_tissue=0.0,
        tissue_method=f"{_TITLES[options.kind]}'s coordinates",
        regions=json.dumps({options.kind: digest}),
        pixels=options.pixels,
        jpeg_quality=options.jpeg_quality,
        group=options.group,
        places=PLACES[1],
    )


def _encoded_tiles(found: Coordinates, reader: SlideReader, settings: PatchSettings) -> EncodedTiles:
    """The slide's own encoded tiles, where patches can be decoded from them without the slide."""
    otherwise = "use --pixels raw or jpeg:Q, which keep decoded patches, or none"
    if settings.ratio != 1:
        raise InputError(
            f"{found.path}: its patches are resampled, {settings.ratio:.4g} pixels of stored level "
            f"{settings.stored_level} to one, each from its own corner, and stored tiles do not say how; {otherwise}"
        )
    between = int((found.l0_corners % max(round(settings.stored_downsample), 1) != 0).any(axis=1).sum())
    if between:
        raise InputError(
            f"{found.path}: {between} of its {len(found.l0_corners)} corners lie between pixels of stored level "
            f"{settings.stored_level}, where OpenSlide interpolates; {otherwise}"
        )
    plan = LevelPlan(0, settings.spacing, settings.stored_level, settings.stored_downsample, 1.0)
    return EncodedTiles(SlidePyramid(reader, settings.grid(reader.info.l0_size), (plan,)))


def _defects(tiles: EncodedTiles, corners: npt.NDArray[np.int64], size: int) -> dict[int, str]:
    """Why patches cannot be read, by their number, as far as is known without decoding."""
    mosaic = tiles.stored.mosaic
    tiles.check(needed := mosaic.tiles_in_any(*tiles.spans(corners, size)))
    bad = {int(number): reason for number in needed if (reason := tiles.defect(int(number))) is not None}
    reasons = {}
    if bad:
        for n, (x, y) in enumerate(zip(*tiles.spans(corners, size), strict=True)):
            met = (row * mosaic.columns + col for col, row in mosaic.tiles_in(*map(int, (x[0], y[0], x[1], y[1]))))
            if (first := next((number for number in met if number in bad), None)) is not None:
                reasons[n] = bad[first]
    return reasons


def _kept(tiles: EncodedTiles, corners: npt.NDArray[np.int64], size: int) -> KeptTiles:
    mosaic, coding = tiles.stored.mosaic, tiles.stored.coding
    numbers = mosaic.tiles_in_any(*tiles.spans(corners, size))
    store = TileStore(mosaic.size, mosaic.tile_size, coding.name, coding.tables, coding.is_ycbcr, coding.differences)
    return KeptTiles(store, numbers, tiles.stored.counts[numbers], tiles.read)


def _spooled(
    reader: SlideReader, geometry: PatchGeometry, l0_corners: npt.NDArray[np.int64], quality: int, spool: ByteSpool
) -> tuple[npt.NDArray[np.int64], dict[int, str]]:
    """Read all patches: those of the stored level, shrunk by area where it is finer, as RGB or JPEG into a spool.

    Returns
    -------
    numpy.ndarray, dict
        int64 (n,): bytes of each that can be read; and why the others cannot be, by their number.
    """
    size, ratio = geometry.size, geometry.source_size / geometry.size
    side = size if ratio == 1 else source_range(0, size, ratio)[1]
    lengths, reasons = [], {}
    for number, (l0_x, l0_y) in enumerate(l0_corners.tolist()):
        try:
            pixels = reader.read((l0_x, l0_y), geometry.stored_level, (side, side))
        except UnreadableRegionError as error:
            reasons[number] = str(error)
            continue
        pixels = pixels if ratio == 1 else resample(pixels, (0, 0), (0, 0), (size, size), ratio)
        data = encode_jpeg(pixels, quality) if quality else pixels.tobytes()
        spool.append(data)
        lengths.append(len(data))
    return np.array(lengths, np.int64), reasons


def _images(store: ImageStore, lengths: npt.NDArray[np.int64], spool: ByteSpool) -> KeptImages:
    places = np.cumsum(lengths) - lengths
    return KeptImages(store, lengths, lambda number: spool.read(int(places[number]), int(lengths[number])))


def _failed(reasons: Mapping[int, str]) -> npt.NDArray[np.void]:
    failed = np.zeros(len(reasons), FAILED_DTYPE)
    failed["col"] = sorted(reasons)
    failed["reason"] = [reasons[n].encode(errors="backslashreplace")[:200] for n in sorted(reasons)]
    return failed
