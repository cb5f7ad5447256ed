"""The stored tiles behind a level of a slide, as they are encoded in its file: to be kept elsewhere without loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.pyramid import stored_span
from pyramidai_mpi.slides.readers.tiff_reader import TiffReader

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.slides.pyramid import SlidePyramid
    from pyramidai_mpi.slides.readers.base import SlideReader
    from pyramidai_mpi.slides.readers.tiff_levels import TiffLevel
    from pyramidai_mpi.slides.spacing import LevelPlan

_TRIED = 8


class TilesNotKeptError(InputError):
    """The stored tiles of a slide cannot be kept as they are encoded; `why` says it without naming the slide."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: its stored tiles cannot be kept as they are: {why}; use --pixels raw, which keeps decoded "
            "patches, or --pixels none, which keeps coordinates"
        )
        self.why = why


class EncodedTiles:
    """Encoded tiles of the stored level that one level of a slide is read from.

    Parameters
    ----------
    pyramid
        The slide, open.
    level
        Analysis level.

    Attributes
    ----------
    plan
        How that level is read.
    stored
        The stored level behind it.

    Raises
    ------
    TilesNotKeptError
        When that level is not one whose tiles could be decoded without the slide.
    """

    def __init__(self, pyramid: SlidePyramid, level: int = 0) -> None:
        self.plan: LevelPlan = pyramid.plans[level]
        self._reader = _tiff_reader(pyramid.reader, self.plan.stored_level)
        stored = self._reader.levels[self.plan.stored_level]
        assert stored is not None
        self.stored: TiffLevel = stored
        self._defects: dict[int, str | None] = {}

    def spans(self, corners: npt.NDArray[np.int64], size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Pixels of the stored level that windows need: first and last (excluded) in x and in y, int64 (n, 2) each.

        Parameters
        ----------
        corners
            int64 (n, 2): x, y of the windows' corners in pixels of the analysis level.
        size
            Their side.
        """
        return stored_spans(self.plan, corners, size)

    def defect(self, number: int) -> str | None:
        """Why a stored tile cannot be kept, as far as is known without decoding it; in words for the user."""
        if number not in self._defects:
            row, col = divmod(number, self.stored.mosaic.columns)
            found = self._reader.tile_defect(self.plan.stored_level, number)
            where = f"stored tile column {col}, row {row} of stored level {self.plan.stored_level}"
            self._defects[number] = None if found is None else f"{where} {found}"
        return self._defects[number]

    def read(self, number: int) -> bytes:
        """Bytes of a stored tile.

        Raises
        ------
        InputError
            When they cannot be read, or the slide was written to since it was opened.
        """
        return self._reader.encoded(self.plan.stored_level, number)

    def check(self, numbers: npt.NDArray[np.int64]) -> None:
        """Decode a few of these tiles, to see that they are what the slide's directory says.

        Raises
        ------
        TilesNotKeptError
            When none of those tried can be decoded.
        """
        sound = [number for number in _spread(numbers, 4 * _TRIED) if self.defect(number) is None][:_TRIED]
        if sound and not any(self._decodes(number) for number in sound):
            raise TilesNotKeptError(
                self._reader.info.path, "they are not what its directory says, and only OpenSlide reads them"
            )

    def _decodes(self, number: int) -> bool:
        try:
            self.stored.decode(self.read(number))
        except ValueError:
            return False
        return True


def stored_spans(
    plan: LevelPlan, corners: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """See `EncodedTiles.spans`; windows share columns and rows, so each is computed once."""
    spans = []
    for axis in (0, 1):
        starts, place = np.unique(corners[:, axis], return_inverse=True)
        found = np.array([stored_span(plan, int(start), int(start) + size) for start in starts], np.int64)
        spans.append(found.reshape(-1, 2)[place])
    return spans[0], spans[1]


def _tiff_reader(reader: SlideReader, stored_level: int) -> TiffReader:
    if not isinstance(reader, TiffReader):
        raise TilesNotKeptError(
            reader.info.path, f"only {_NAMES[reader.info.reader]} can read them (format {reader.info.vendor})"
        )
    if reader.levels[stored_level] is None:
        if stored_level and not reader.info.stored_exact[stored_level]:
            why = f"stored level {stored_level} is no whole fraction of level 0, so its pixels are interpolated"
        else:
            why = f"those of stored level {stored_level} are compressed in a way that only OpenSlide reads"
        raise TilesNotKeptError(reader.info.path, why)
    return reader


_NAMES = {
    "openslide": "OpenSlide",
    "image": "a program for pictures",
    "patches": "the reader of patches",
    "tiff": "the tiff reader",
}


def _spread(numbers: npt.NDArray[np.int64], n: int) -> Iterable[int]:
    """Up to n of them at even distances."""
    return (
        int(number) for number in numbers[np.unique(np.linspace(0, len(numbers) - 1, min(n, len(numbers))).astype(int))]
    )
