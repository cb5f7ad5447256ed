"""Patches of a slide from their file, for Python."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.patch_order import n_groups
from pyramidai_mpi.patches.pictures import PatchPictures
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.kept_level import KeptLevel
from pyramidai_mpi.store.patches.reader import PatchFile

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.readers.kept_level import DecodedTiles
    from pyramidai_mpi.store.patches.record import PatchHeader


_TOGETHER = 1 << 16
"""Rows of the table that are read for the sake of a few: a millisecond."""


def open_patches(path: str | os.PathLike[str], *, group: int | None = None) -> OpenPatches:
    """Open a file of patches that ``pyramidai patches extract`` has made.

    Its checksums are checked before anything of it is believed, those of pixels as they are read.

    Parameters
    ----------
    path
        The file.
    group
        Patches in a group; None takes what the file says.

    Raises
    ------
    InputError
        When it is missing, is no such file, or was changed after it was written.
    UsageError
        When `group` is no number above 0.
    """
    return OpenPatches(Path(path), group)


class OpenPatches:
    """Patches of one slide. Threads, and processes forked after it was opened, may use it at once.

    ``len``, indexing and iteration are those of a sequence of patches. As a context manager it closes the file.

    Parameters
    ----------
    path, group
        See `open_patches`.
    decoded
        Where decoded tiles are kept, which several files may share; None for a place of its own.
    """

    def __init__(self, path: Path, group: int | None = None, decoded: DecodedTiles | None = None) -> None:
        if group is not None and operator.index(group) < 1:
            raise UsageError(f"group {group}: expected a number of patches above 0")
        self._file = PatchFile(path)
        try:
            store = self._file.header.tiles
            self._pixels = None if store is None else KeptLevel(self._file, store, decoded)
            images = self._file.header.images
            self._pictures = None if images is None else PatchPictures(self._file, images)
        except BaseException:
            self._file.close()
            raise
        self._pyramid = None if self._pixels is None else self._pixels.pyramid()
        self._asked_group = group

    def __len__(self) -> int:
        return self.header.n_patches

    def __getitem__(self, number: int) -> RgbArray:
        return self.patch(number)

    def __iter__(self) -> Iterator[RgbArray]:
        return (self.patch(number) for number in range(len(self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., OpenPatches], tuple[Path, int | None]]:
        return OpenPatches, (self._file.path.absolute(), self._asked_group)  # another process opens it anew

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()

    @property
    def header(self) -> PatchHeader:
        """Slide, settings and numbers."""
        return self._file.header

    @property
    def origin(self) -> dict[str, str]:
        """``patient``, ``node`` and ``centre``, as far as they are known."""
        return dict(self.header.slide.origin)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels; ``table["label"]`` holds their numbers, -1 where nothing is known."""
        return self.header.settings.label_names

    @property
    def digest(self) -> str:
        """SHA-256 of the content: equal files of patches, equal digests."""
        return self.header.digest

    @property
    def group_size(self) -> int:
        """Patches in a group, but for the last one, which may have fewer."""
        return self._asked_group or self.header.settings.group

    @property
    def n_groups(self) -> int:
        """Groups of consecutive patches."""
        return n_groups(len(self), self.group_size)

    @property
    def table(self) -> npt.NDArray[np.void]:
        """All patches, row-major; one record each, see `store.patches.record.PATCH_DTYPE`.

        Raises
        ------
        InputError
            When the tables do not fit each other.
        """
        return self._file.patches

    def places(self, first: int, last: int) -> npt.NDArray[np.void]:
        """Where patches lie, from one up to another (excluded): ``col``, ``row``, ``l0_x``, ``l0_y``; see `table`.

        Numbers count as in a slice of `table`: from the end where negative, and beyond it there are none. It reads a
        block about them, where `table` reads all: of a million patches this takes milliseconds.

        Raises
        ------
        InputError
            When the tables do not fit each other.
        """
        first, last, _ = slice(first, last).indices(len(self))
        return self._file.places(first, last)

    @property
    def coords(self) -> npt.NDArray[np.int64]:
        """Top-left corners of the patches in level-0 pixels of the slide, int64 (N, 2): l0_x, l0_y."""
        return np.stack([self.table["l0_x"], self.table["l0_y"]], axis=1)

    @property
    def failed(self) -> npt.NDArray[np.void]:
        """Cells that are no patches, as their pixels could not be had: level, col, row, reason."""
        return self._file.failed

    def patch(self, number: int) -> RgbArray:
        """Pixels of a patch, uint8 (size, size, 3) RGB; white outside the slide.

        Parameters
        ----------
        number
            0 to N - 1, or from the end where negative.

        Raises
        ------
        IndexError
            When there is none.
        InputError
            When the file keeps no pixels, or they were damaged.
        """
        number = operator.index(number)
        if not -len(self) <= number < len(self):
            raise IndexError(f"patch {number} of {len(self)}")
        size = self.header.settings.size
        return self._fill(number % len(self), np.empty((size, size, 3), np.uint8))

    def group(self, number: int, out: RgbArray | None = None) -> RgbArray:
        """Pixels of the patches of a group, uint8 (n, size, size, 3).

        Patches that lie beside each other share decoded tiles, so where a file keeps those this takes far less than as
        many patches by chance.

        Parameters
        ----------
        number
            0 to `n_groups` - 1.
        out
            uint8 (m, size, size, 3) with m >= n to fill, which saves the system from making room anew for each group.

        Raises
        ------
        IndexError, InputError
            As `patch`.
        ValueError
            When `out` is too small, or of another kind.
        """
        if not 0 <= number < self.n_groups:
            raise IndexError(f"group {number} of {self.n_groups}")
        first = number * self.group_size
        return self.take(np.arange(first, min(first + self.group_size, len(self))), out)

    def take(self, numbers: npt.NDArray[np.integer], out: RgbArray | None = None) -> RgbArray:
        """Pixels of any patches, uint8 (n, size, size, 3), in the order that is asked for.

        They are read in an order in which those beside each other share decoded tiles.

        Parameters
        ----------
        numbers
            Integers (n,), each 0 to N - 1.
        out
            As of `group`.

        Raises
        ------
        IndexError, InputError, ValueError
            As `group`.
        """
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise IndexError(f"patches {numbers.min()} to {numbers.max()} of {len(self)}")
        size = self.header.settings.size
        pixels = np.empty((len(numbers), size, size, 3), np.uint8) if out is None else out[: len(numbers)]
        if pixels.shape != (len(numbers), size, size, 3) or pixels.dtype != np.uint8:
            raise ValueError(f"out is {pixels.dtype} {pixels.shape}, expected uint8 {(len(numbers), size, size, 3)}")
        is_mosaic = self._pixels is not None and len(numbers)
        for place in _way_through(self._places(numbers)) if is_mosaic else range(len(numbers)):
            self._fill(int(numbers[place]), pixels[place])
        return pixels

    def _places(self, numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.void]:
        """Where patches lie: read from a part of the table where they stand about together, else from all of it."""
        first, last = int(numbers.min()), int(numbers.max()) + 1
        if last - first > _TOGETHER + 4 * len(numbers):
            return np.asarray(self.table[numbers])
        return np.asarray(self._file.places(first, last)[numbers - first])

    def _fill(self, number: int, out: RgbArray) -> RgbArray:
        """Pixels of a patch, into an array of its shape."""
        if self._pictures is not None:
            out[...] = self._pictures.decode(number)
            return out
        if self._pixels is None or self._pyramid is None:
            raise InputError(f"{self._file.path}: keeps coordinates alone (--pixels none); read the slide there")
        record, settings = self._file.places(number, number + 1)[0], self.header.settings
        try:
            if settings.ratio == 1:
                return self._pixels.fill((int(record["l0_x"]), int(record["l0_y"])), out)
            out[...] = self._pyramid.read_tile(0, int(record["col"]), int(record["row"]))
            return out
        except UnreadableRegionError as error:
            raise InputError(f"{self._file.path}: patch {number} cannot be read: {error}") from error

    def check(self) -> list[str]:
        """Check every checksum, and decode every stored tile or picture; what is wrong, in words.

        Raises
        ------
        InputError
            When the tables are not what was written.
        """
        self._file.check_tables()
        found = []
        for row in range(self.header.n_tiles):
            assert self._pixels is not None
            try:
                self._pixels.decode(row)
            except (InputError, UnreadableRegionError) as error:
                found.append(str(error))
        for number in range(len(self) if self._pictures is not None else 0):
            assert self._pictures is not None
            try:
                self._pictures.decode(number)
            except InputError as error:
                found.append(str(error))
        return found


def _way_through(patches: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """An order in which a group's patches are read: along its longer side, a few patches across.

    Rows of patches are as wide as the slide. Read row by row, each tile would be forgotten before the next row asks for
    it: a row of 512 px tiles of a slide 30000 px wide fills the cache.
    """
    spans = [int(np.ptp(patches[name])) for name in ("col", "row")]
    along, across = ("col", "row") if spans[0] >= spans[1] else ("row", "col")
    return np.lexsort((patches[across], patches[along]))
