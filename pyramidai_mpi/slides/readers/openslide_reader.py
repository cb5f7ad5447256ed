"""The gate to OpenSlide: the only module that imports it."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.errors import (
    InputError,
    InternalError,
    PyramidError,
    StorageError,
    input_errors,
    machine_failure,
)
from pyramidai_mpi.base.names import without_folders
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.slides.readers.base import (
    LEFT_OUT,
    MISSING,
    THERE,
    SlideInfo,
    UnreadableRegionError,
    check_can_be_opened,
)
from pyramidai_mpi.slides.readers.pixel_kinds import as_rgb, larger_page, obstacle, unsupported_compression
from pyramidai_mpi.slides.readers.stored_tiles import StoredTiles, pages_of
from pyramidai_mpi.slides.readers.true_levels import shrinks_alike, true_levels
from pyramidai_mpi.slides.spacing import nominal_downsample, square_spacing

try:
    import openslide
except (ImportError, OSError) as error:  # the latter where Python finds its binding and no library behind it
    raise InternalError(
        f"OpenSlide cannot be loaded ({' '.join(str(error).split())}); install the system's, or: pip install "
        "openslide-python openslide-bin"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.readers.tiff_directory import TiffPage

# OpenSlide places the tiles of a reduced level at fractions of a pixel where the level's size was rounded, and adds up
# their shares: at the corners of stored tiles alpha was seen to come out as 253 or 254. A pixel that is not in the file
# has 0, or its neighbour's share. Level 0 lies on whole pixels.
_OPAQUE_REDUCED = 250
# Formats whose scanners leave out areas without tissue, which OpenSlide gives as transparent. Everywhere else a
# transparent pixel is one that got lost.
_SPARSE_VENDORS = frozenset({"dicom", "leica", "mirax", "philips", "sakura", "ventana", "zeiss"})
# A million pixels a side: no scanner makes such slides, but a damaged size may claim to be one.
_MOST_L0_PIXELS = 10**12
# Formats in which OpenSlide takes any page of tiles for a level; the others say which is what.
_VENDORS_OF_LOOSE_PAGES = frozenset({"generic-tiff", "aperio"})
_UNCOMPRESSED, _LIBTIFF_BLOCK = 1, 1024


class OpenSlideReader:
    """A slide behind OpenSlide.

    An OpenSlide handle that met an error stays in error for ever, so every failed read reopens the file: one bad tile
    costs that tile and no other.

    Parameters
    ----------
    path
        Any file that OpenSlide opens.
    known
        Description of the same slide by another rank, which has compared its levels; None compares them.

    Raises
    ------
    InputError
        When the file is missing, is no slide, is too damaged to open or does not hold the colours of a stain; when
        reading, once it has been written to since it was opened, because its pixels would be of two slides.
    StorageError
        When its disk fails as it is opened; pixels that a disk does not give later are unreadable ones.
    """

    def __init__(self, path: Path, known: SlideInfo | None = None) -> None:
        self._closed = False
        self._stamp = _stamp(path)
        self._handle = _open(path)
        try:
            self.info = _describe(path, self._handle)
            self.stored_tiles = StoredTiles(path, self.info.vendor, self.info.stored_sizes)
            first = self.stored_tiles.levels[0]
            self._has_alpha = first is not None and first.has_alpha  # says itself what it leaves out
            try:
                self._keep_true_levels(known)
            except BaseException:
                self.stored_tiles.close()
                raise
        except openslide.OpenSlideError as error:
            self._handle.close()
            _raise_if_the_disk_fails(path, error)
            raise InputError(f"{path}: damaged slide: {error}") from error
        except BaseException:
            self._handle.close()
            raise

    def read(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> RgbArray:
        """See `SlideReader.read`."""
        self._check_stored_tiles(l0_corner, stored_level, size)
        try:
            region = self._handle.read_region(l0_corner, self.info.level_in_file(stored_level), size)
        except openslide.OpenSlideError as error:
            self.check_unchanged()
            self._reopen()
            raise UnreadableRegionError(without_folders(str(error), [self.info.path])) from error
        self.check_unchanged()
        rgba = np.asarray(region)
        if rgba[..., 3].min() >= _opaque(stored_level):
            return np.ascontiguousarray(rgba[..., :3])
        there = self._is_there(rgba[..., 3], l0_corner, stored_level)
        missing = int((~there).sum())
        if missing and self._is_sparse:
            if rgba[..., 3].any():
                return _on_white(region)
            raise UnreadableRegionError("none of its pixels is in the file")
        if missing:
            raise UnreadableRegionError(f"{missing} of {rgba.shape[0] * rgba.shape[1]} pixels are not in the file")
        return _on_white(region)

    def read_what_is_there(
        self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]
    ) -> tuple[RgbArray, npt.NDArray[np.uint8]]:
        """See `SlideReader.read_what_is_there`."""
        try:
            self._check_stored_tiles(l0_corner, stored_level, size)
            region = self._handle.read_region(l0_corner, self.info.level_in_file(stored_level), size)
        except (openslide.OpenSlideError, UnreadableRegionError) as error:
            self.check_unchanged()
            if isinstance(error, openslide.OpenSlideError):
                with contextlib.suppress(UnreadableRegionError):
                    self._reopen()
            shape = (size[1], size[0])
            inside = self._is_there(np.zeros(shape, np.uint8), l0_corner, stored_level)
            return np.full((*shape, 3), 255, np.uint8), np.where(inside, THERE, MISSING).astype(np.uint8)
        self.check_unchanged()
        alpha = np.asarray(region)[..., 3]
        there = self._is_there(alpha, l0_corner, stored_level)
        return _on_white(region), np.where(there, THERE, LEFT_OUT if self._is_sparse else MISSING).astype(np.uint8)

    def expect(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> None:
        """See `SlideReader.expect`; OpenSlide does not tell where the bytes are."""

    @property
    def beyond_openslide(self) -> frozenset[int]:
        """Stored levels of which OpenSlide can read no tile, though they are sound.

        The libtiff in OpenSlide's wheels (4.7.1) asks for tiles that are stored as they are in whole KiB, and refuses
        any whose bytes are no multiple of that.
        """
        return frozenset(
            level
            for level, page in enumerate(self.stored_tiles.levels)
            if page is not None and page.compression == _UNCOMPRESSED and page.tile_bytes % _LIBTIFF_BLOCK
        )

    @property
    def _is_sparse(self) -> bool:
        return self.info.vendor in _SPARSE_VENDORS or self._has_alpha

    def _keep_true_levels(self, known: SlideInfo | None) -> None:
        """Forget levels that are none: see `true_levels`; refuse a slide whose pixels are no colours."""
        info, pages = self.info, self.stored_tiles.levels
        obstacles = ["" if page is None else obstacle(page, self.stored_tiles.pages) for page in pages]
        if obstacles[0]:
            raise InputError(f"{info.path}: {obstacles[0]}")
        if info.vendor not in _VENDORS_OF_LOOSE_PAGES:
            return
        if wrong := larger_page(info.l0_size, self.stored_tiles.pages):
            raise InputError(f"{info.path}: {wrong}")
        if known is not None and (known.l0_size, known.n_in_file) == (
            info.l0_size,
            len(pages),
        ):  # else it is another slide, as its hash will show
            levels = known.levels_in_file or tuple(range(len(pages)))
        else:
            levels = tuple(level for level in true_levels(info, pages, self.read) if not obstacles[level])
        if len(levels) < len(pages):
            self.stored_tiles.keep(levels)
            self.info = replace(
                info,
                stored_sizes=tuple(info.stored_sizes[n] for n in levels),
                stored_downsamples=tuple(info.stored_downsamples[n] for n in levels),
                stored_exact=tuple(info.stored_exact[n] for n in levels),
                levels_in_file=levels,
                no_levels=tuple(size for n, size in enumerate(info.stored_sizes) if n not in levels),
            )

    def close(self) -> None:
        """Release the file."""
        if not self._closed:  # OpenSlide refuses to close a handle twice
            self._closed = True
            self._handle.close()
        self.stored_tiles.close()

    def check_unchanged(self) -> None:
        """Raise `InputError` when the file has been written to since it was opened."""
        now = _stamp(self.info.path)
        if None not in (now, self._stamp) and now != self._stamp:
            raise InputError(
                f"{self.info.path}: was written to while it was being read; wait until it is complete and run again"
            )

    def _check_stored_tiles(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> None:
        downsample = self.info.stored_downsamples[stored_level]
        # OpenSlide's idea of an inexact level's downsample may lie a pixel off ours
        margin = 0 if self.info.stored_exact[stored_level] else 1
        corner = (l0_corner[0] / downsample - margin, l0_corner[1] / downsample - margin)
        defect = self.stored_tiles.defect(stored_level, corner, (size[0] + 2 * margin, size[1] + 2 * margin))
        if defect is not None:
            self.check_unchanged()  # a defect that came after the opening ends the run
            raise UnreadableRegionError(defect)

    def _reopen(self) -> None:
        try:
            handle = _open(self.info.path)
        except PyramidError as error:
            # The file went away under the run. The old handle stays in error: every later read comes here again.
            reason = without_folders(str(error), [self.info.path])
            raise UnreadableRegionError(f"the slide cannot be opened any more: {reason}") from error
        self._handle.close()
        self._handle = handle

    def _is_there(
        self, alpha: npt.NDArray[np.uint8], l0_corner: tuple[int, int], stored_level: int
    ) -> npt.NDArray[np.bool_]:
        """Where pixels are opaque, or outside the slide (and so not missing)."""
        there: npt.NDArray[np.bool_] = alpha >= _opaque(stored_level)
        downsample = self.info.stored_downsamples[stored_level]
        # The last row and column of a reduced level may stand for part of a pixel, and OpenSlide places reduced
        # levels at fractions of a pixel: their very edge is rightly half transparent.
        margin = 0 if stored_level == 0 else 1
        for axis, corner, extent in (
            (1, l0_corner[0], self.info.l0_size[0]),
            (0, l0_corner[1], self.info.l0_size[1]),
        ):
            first = math.ceil(max(-corner / downsample, 0)) + (margin if corner <= 0 else 0)
            last = math.floor((extent - corner) / downsample) - margin
            outside = np.arange(alpha.shape[axis])
            beyond = (outside < first) | (outside >= last)
            there |= beyond[None, :] if axis == 1 else beyond[:, None]
        return there


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change of a slide's (main) file; None while it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None  # an open handle reads on; whatever it cannot read is unreadable
    return status.st_size, status.st_mtime_ns


def _opaque(stored_level: int) -> int:
    """Least alpha of a pixel that is in the file."""
    return 255 if stored_level == 0 else _OPAQUE_REDUCED


def _open(path: Path) -> openslide.OpenSlide:
    check_can_be_opened(path)
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        _raise_if_the_disk_fails(path, error)
        raise InputError(f"{path}: {_why_unsupported(pages_of(path), path.stat().st_size)}") from error
    except openslide.OpenSlideError as error:
        _raise_if_the_disk_fails(path, error)
        pages = pages_of(path)
        if pages and (wrong := obstacle(pages[0], pages, unreadable=unsupported_compression(str(error)))):
            raise InputError(f"{path}: {wrong}") from error
        raise InputError(f"{path}: damaged slide, OpenSlide says: {error}; copy it again") from error


def _raise_if_the_disk_fails(path: Path, error: openslide.OpenSlideError) -> None:
    """See whether OpenSlide met a disk that fails: it calls that no slide, or a damaged one.

    Raises
    ------
    StorageError
        The system says so to us, too, or said so to OpenSlide.
    """
    reason = machine_failure(error)
    if reason is not None:
        raise StorageError(f"{path}: {reason}") from error
    if path.is_file():
        with input_errors(path):
            quickhash(path)  # looks at 66 places of the file


def _why_unsupported(pages: tuple[TiffPage, ...], n_bytes: int) -> str:
    """Why OpenSlide calls a file none of its formats: its pages are `pages`, none where it is no TIFF."""
    if any(page.reaches_beyond(n_bytes) for page in pages):
        return "damaged slide, tiles of it lie beyond the end of the file, which is cut short; copy it again"
    if pages and pages[0].is_tiled:
        if wrong := larger_page(pages[0].size, pages) or obstacle(pages[0], pages):
            return wrong
        others = [one.size for one in pages[1:] if one.is_reduced and not shrinks_alike(pages[0].size, one.size)]
        if others:
            sizes = ", ".join(f"{width} x {height}" for width, height in others)
            return (
                f"OpenSlide finds no order in its levels, because its pages of {sizes} pixels are no smaller versions "
                f"of the slide; save the slide without them: {as_rgb()}"
            )
        return f"a TIFF in tiles that OpenSlide does not know as it is stored; save it anew: {as_rgb()}"  # big-endian
    return "not a whole-slide image that OpenSlide can read, nor a PNG, JPEG or TIFF; check the file"


def has_a_format(path: Path) -> bool:
    """Whether OpenSlide knows the format of a file; not, whether it can open it."""
    try:
        return openslide.OpenSlide.detect_format(path) is not None
    except openslide.OpenSlideError:
        return True  # it has begun to


def _describe(path: Path, handle: openslide.OpenSlide) -> SlideInfo:
    properties = handle.properties
    if min(handle.dimensions) <= 0:
        raise InputError(f"{path}: damaged slide, its size is {handle.dimensions}; copy it again")
    if math.prod(handle.dimensions) > _MOST_L0_PIXELS:
        raise InputError(f"{path}: damaged slide, it claims to have {handle.dimensions} pixels; copy it again")
    mpp, mpp_flaw = _spacing(properties)
    return SlideInfo(
        path=path,
        vendor=str(properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")),
        l0_size=handle.dimensions,
        stored_sizes=tuple(handle.level_dimensions),
        stored_downsamples=tuple(nominal_downsample(d) for d in handle.level_downsamples),
        stored_exact=tuple(d == nominal_downsample(d) and d.is_integer() for d in handle.level_downsamples),
        mpp=mpp,
        mpp_flaw=mpp_flaw,
        l0_bounds=(
            int(properties.get(openslide.PROPERTY_NAME_BOUNDS_X, 0)),
            int(properties.get(openslide.PROPERTY_NAME_BOUNDS_Y, 0)),
        ),
        openslide_quickhash1=properties.get(openslide.PROPERTY_NAME_QUICKHASH1),
    )


def _spacing(properties: Mapping[str, str]) -> tuple[float | None, str]:
    """µm/px, and what is wrong with what the file says of it."""
    try:
        mpp_x = float(properties[openslide.PROPERTY_NAME_MPP_X])
        mpp_y = float(properties[openslide.PROPERTY_NAME_MPP_Y])
    except (KeyError, ValueError):
        return None, ""
    return square_spacing(mpp_x, mpp_y)


def _on_white(region: Image.Image) -> RgbArray:
    canvas = Image.new("RGB", region.size, (255, 255, 255))
    canvas.paste(region, mask=region.getchannel("A"))
    return np.array(canvas)
