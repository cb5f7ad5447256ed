"""Tissue tiles of slides: found once, by whichever rank, and read from the slides whenever they are looked at.

Nothing is kept of what is read. A tile of 224 pixels is decoded in a few milliseconds and computed in tens of them, so
reading does not hold up; and neither memory nor disk depends on how many tiles are drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.classify import normaliser_of
from pyramidai_mpi.base.types import tiles_at
from pyramidai_mpi.ranks.collectives import gather_messages, share_bytes
from pyramidai_mpi.run.opening import describe, open_under, rule_of, segment_slide
from pyramidai_mpi.run.sampling import read_tiles
from pyramidai_mpi.run.stain import estimate_stain, own_stain_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.settings import SlideInput
    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.ranks.unit_pool import UnitPool

_OPEN_AT_A_TIME = 4
HASH_ROWS = 2


def find_tissue(
    pool: UnitPool, slides: Sequence[SlideInput], package: ModelPackage
) -> tuple[list[npt.NDArray[np.int64]], list[str]]:
    """Each slide's tissue tiles at level 0 of a package of one level, and its quick hash. Collective.

    Returns
    -------
    tiles : list of numpy.ndarray
        int64 (n, 2), columns and rows.
    quickhashes : list of str
        See `slides.identity`.

    Raises
    ------
    InputError
        A slide cannot be used.
    PoolStoppedError
        See `UnitPool.do`.
    """
    own: dict[int, npt.NDArray[np.int64]] = {}

    def find(number: int) -> None:
        slide, rule, _ = describe(slides[number], package)
        slide.pyramid.reader.close()
        roots = rule.roots()
        tiles = np.stack([roots["col"], roots["row"]], 1).astype(np.int64)
        own[number] = np.concatenate([rows_of_hash(slide.quickhash), tiles])

    pool.do(len(slides), find)
    found = shared(pool, own)
    each = [found[number] for number in range(len(slides))]
    return [rows[HASH_ROWS:] for rows in each], [hash_of_rows(rows) for rows in each]


def rows_of_hash(quickhash: str) -> npt.NDArray[np.int64]:
    """A SHA-256 in hexadecimal digits as rows of what ranks share, int64 (2, 2)."""
    return np.frombuffer(bytes.fromhex(quickhash), np.int64).reshape(HASH_ROWS, 2)


def hash_of_rows(rows: npt.NDArray[np.int64]) -> str:
    """The SHA-256 that the first rows stand for."""
    return rows[:HASH_ROWS].tobytes().hex()


def shared(pool: UnitPool, own: Mapping[int, npt.NDArray[np.int64]]) -> dict[int, npt.NDArray[np.int64]]:
    """What all ranks have found, (n, 2) by number, on all. Collective."""
    if pool.comm is None:
        return dict(own)
    messages = [np.array([[number, len(rows)], *rows], np.int64).tobytes() for number, rows in own.items()]
    together = gather_messages(pool.comm, messages)
    everything = share_bytes(pool.comm, b"".join(together) if pool.rank == 0 else None)
    rest = np.frombuffer(everything, np.int64).reshape(-1, 2)
    found = {}
    while len(rest):
        number, count = rest[0].tolist()
        found[number], rest = rest[1 : 1 + count], rest[1 + count :]
    return found


class TissueTiles:
    """Reads tissue tiles, with their stain normalised where the package says so; see `TilePixels`.

    Parameters
    ----------
    slides, package
        The slides, and what says size and spacing of tiles and how stain is normalised.
    tiles
        Of each slide, see `find_tissue`.
    """

    def __init__(
        self, slides: Sequence[SlideInput], package: ModelPackage, tiles: Sequence[npt.NDArray[np.int64]]
    ) -> None:
        self._slides, self._package, self._tiles = slides, package, tiles
        self._stain_engine = own_stain_engine(package)
        self._open: dict[int, tuple[OpenSlide, Callable[[RgbArray], RgbArray] | None]] = {}

    def __call__(self, slide: int, tiles: npt.NDArray[np.int64]) -> tuple[RgbArray, npt.NDArray[np.bool_]]:
        """See `TilePixels`."""
        opened, normalise = self._opened(slide)
        return read_tiles(opened.pyramid, tiles_at(0, self._tiles[slide][tiles]), normalise)

    def close(self) -> None:
        """Close what is open."""
        while self._open:
            self._open.popitem()[1][0].pyramid.reader.close()

    def _opened(self, number: int) -> tuple[OpenSlide, Callable[[RgbArray], RgbArray] | None]:
        if number in self._open:
            self._open[number] = self._open.pop(number)  # now the last to be closed
            return self._open[number]
        while len(self._open) >= _OPEN_AT_A_TIME:
            self._open.pop(next(iter(self._open)))[0].pyramid.reader.close()
        slide = open_under(self._slides[number], self._package)
        if self._package.stain_target is not None:
            slide = estimate_stain(slide, rule_of(slide, segment_slide(slide)), self._package)
        self._open[number] = slide, normaliser_of(slide, self._stain_engine)
        return self._open[number]
