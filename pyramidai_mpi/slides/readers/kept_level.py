"""The level of a slide of which a file of patches keeps encoded tiles, read in the slide's place.

What the file does not keep is unreadable, never white. For whoever looks for tissue it is left out, as areas are that a
scanner left out: there is none.
"""

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.odd_levels import OWN
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.base import LEFT_OUT, MISSING, SlideInfo, UnreadableRegionError
from pyramidai_mpi.slides.readers.tile_codecs import TileCoding
from pyramidai_mpi.slides.readers.tile_mosaic import TileCache, TileMosaic
from pyramidai_mpi.slides.spacing import LevelPlan
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import PLACES

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.store.patches.record import TileStore


_MARKS = itertools.count()
"""Tells files apart among decoded tiles."""


class DecodedTiles:
    """Decoded tiles of one or many files, kept within `CACHE_BYTES`; used by any number of threads.

    A forked process begins anew: another thread of its parent may have held the lock.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.cache: TileCache[tuple[int, int]] = TileCache()

    def get(self, key: tuple[int, int]) -> RgbArray | None:
        """A tile that is kept, by the number of its file and its own."""
        if self.pid != os.getpid():
            self._begin()
        with self.lock:
            return self.cache.get(key)

    def put(self, key: tuple[int, int], tile: RgbArray) -> None:
        """Keep a tile."""
        with self.lock:
            if key not in self.cache:
                self.cache.put(key, tile)


def open_kept_level(path: Path) -> KeptLevel:
    """Open a file of patches in its slide's place.

    Raises
    ------
    InputError
        When it is no such file, was changed after it was written, or keeps none of the slide's own tiles.
    """
    file = PatchFile(path)
    try:
        store = file.header.tiles
        if file.header.settings.places == PLACES[2]:
            raise InputError(f"{path}: holds pictures, which are of no slide; give a slide, or patches cut out of one")
        if store is None:
            what = "coordinates alone" if file.header.settings.pixels == "none" else "a picture of each patch"
            raise InputError(
                f"{path}: keeps {what}, and none of the slide's own tiles, so it cannot be read in the slide's place; "
                f"use the slide, {file.header.slide.name}, or extract with --pixels stored"
            )
        return KeptLevel(file, store)
    except BaseException:
        file.close()
        raise


class KeptLevel:
    """Pixels of the stored level of a file of patches. See `SlideReader`; used by any number of threads.

    What is asked for beyond the kept tiles is an `UnreadableRegionError`, never white.

    Parameters
    ----------
    file, store
        The file, and the encoded tiles that it keeps.
    decoded
        Where decoded tiles are kept; None for a place of its own.

    Raises
    ------
    InputError
        When no decoder here takes them.
    """

    def __init__(self, file: PatchFile, store: TileStore, decoded: DecodedTiles | None = None) -> None:
        self._file = file
        settings, slide = file.header.settings, file.header.slide
        self.mosaic = TileMosaic(store.level_size, store.tile_size)
        coding = TileCoding(store.coding, store.tile_size, store.tables, store.is_ycbcr, store.differences)
        try:
            self._decode = coding.decoder()
        except (ValueError, ImportError) as error:
            raise InputError(f"{file.path}: its tiles cannot be decoded here: {error}") from error
        self._downsample = round(settings.stored_downsample)
        self._decoded = decoded or DecodedTiles()
        self._mark = next(_MARKS)
        self.info = SlideInfo(
            path=file.path,
            vendor=slide.vendor,
            l0_size=slide.l0_size,
            stored_sizes=(store.level_size,),
            stored_downsamples=(settings.stored_downsample,),
            stored_exact=(True,),
            mpp=slide.mpp,
            l0_bounds=(0, 0),
            reader="patches",
            levels_in_file=(settings.stored_level,),
            patches_digest=file.header.digest,
            slide_name=slide.name,
            odd_levels="" if all(side % self._downsample == 0 for side in slide.l0_size) else OWN,
        )

    def pyramid(self) -> SlidePyramid:
        """The patches' level over it."""
        settings = self._file.header.settings
        plan = LevelPlan(0, settings.spacing, 0, settings.stored_downsample, settings.ratio)
        return SlidePyramid(self, settings.grid(self.info.l0_size), (plan,))

    def read(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> RgbArray:
        """See `SlideReader.read`; there is one stored level."""
        try:
            return self.fill(l0_corner, np.empty((size[1], size[0], 3), np.uint8))
        except InputError as error:  # one tile's bytes have changed
            raise UnreadableRegionError(str(error)) from error

    def fill(self, l0_corner: tuple[int, int], out: RgbArray) -> RgbArray:
        """As `read`, into an array, uint8 (height, width, 3), which is returned.

        Raises
        ------
        InputError
            When bytes of a tile were damaged after they were written.
        UnreadableRegionError
            When a tile is not kept, or was damaged in the slide.
        """
        if l0_corner[0] % self._downsample or l0_corner[1] % self._downsample:
            raise UnreadableRegionError("its corner lies between pixels of the level that is kept")
        corner = l0_corner[0] // self._downsample, l0_corner[1] // self._downsample
        pixels = self.mosaic.compose(corner, (out.shape[1], out.shape[0]), self._tile, out)
        assert pixels is not None  # a tile that cannot be had raises
        return pixels

    def read_what_is_there(
        self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]
    ) -> tuple[RgbArray, npt.NDArray[np.uint8]]:
        """See `SlideReader.read_what_is_there`; tiles that are not kept are left out, damaged ones are missing."""
        if l0_corner[0] % self._downsample or l0_corner[1] % self._downsample:
            shape = (size[1], size[0])
            return np.full((*shape, 3), 255, np.uint8), np.full(shape, MISSING, np.uint8)

        def tile(col: int, row: int) -> RgbArray | int:
            if self._row_of(col, row) is None:
                return LEFT_OUT
            try:
                return self._tile(col, row)
            except (InputError, UnreadableRegionError):
                return MISSING

        corner = l0_corner[0] // self._downsample, l0_corner[1] // self._downsample
        return self.mosaic.compose_what_is_there(corner, size, tile)

    def expect(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> None:
        """See `SlideReader.expect`."""
        left, top = l0_corner[0] // self._downsample, l0_corner[1] // self._downsample
        rows = (self._row_of(col, row) for col, row in self.mosaic.tiles_in(left, top, left + size[0], top + size[1]))
        self._file.expect(row for row in rows if row is not None)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def decode(self, row: int) -> RgbArray:
        """Decode the tile of a row of the file's index, past the cache.

        Raises
        ------
        InputError
            When its bytes were damaged after they were written.
        UnreadableRegionError
            When they are those of the slide, and damaged there.
        """
        data = self._file.encoded(row)
        try:
            return self._decode(data)
        except ValueError as error:
            number = int(self._file.tile_index["number"][row])
            tile_row, col = divmod(number, self.mosaic.columns)
            raise UnreadableRegionError(
                f"stored tile column {col}, row {tile_row} is damaged in the slide itself ({error})"
            ) from error

    def _tile(self, col: int, row: int) -> RgbArray:
        number = row * self.mosaic.columns + col
        kept = self._decoded.get((self._mark, number))
        if kept is not None:
            return kept
        place = self._row_of(col, row)
        if place is None:
            raise UnreadableRegionError(f"stored tile column {col}, row {row} is not kept in {self._file.path.name}")
        tile = self.decode(place)
        self._decoded.put((self._mark, number), tile)
        return tile

    def _row_of(self, col: int, row: int) -> int | None:
        """Row of a stored tile in the file's index; None where it is not kept."""
        number, numbers = row * self.mosaic.columns + col, self._file.tile_numbers
        place = int(np.searchsorted(numbers, number))
        return place if place < len(numbers) and numbers[place] == number else None
