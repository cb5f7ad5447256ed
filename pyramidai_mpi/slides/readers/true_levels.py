"""Which of the levels that OpenSlide finds in a TIFF are smaller versions of its level 0.

OpenSlide takes each page that is tiled, and in generic TIFF said to be reduced, for a level. So do writers with the
picture of the label or of the whole glass, with a second focal plane or another stain. Read as a level, such a page
gives tissue where there is none. A level shrinks both sides alike and looks like what it was made from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pyramidai_mpi.slides.readers.base import UnreadableRegionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.readers.base import SlideInfo
    from pyramidai_mpi.slides.readers.tiff_directory import TiffPage

    Read: TypeAlias = Callable[[tuple[int, int], int, tuple[int, int]], RgbArray]

_SIDES_ALIKE = 0.01
"""Most by which the sides' shrinking may differ, beside a pixel of rounding."""
_UNCOMPRESSED = 1
# Stored tiles of level 0 that are looked at, by the place of their size in bytes among all: what takes many bytes has
# structure. Each costs about 2 ms a level, 50 ms for seven levels in all. Where all take the same, more are looked at,
# at random; they need no decoding.
_RANKS = (0.0, 0.05, 0.2, 0.5, 1.0)
_RANDOM_TILES = 32
_BLOCK, _MOST_FINER_PIXELS = 8, 256
"""Side of a block in pixels of the smaller level, and most in pixels of the larger."""
# Block means of real levels differ by 1 or 2 grey levels from those of the level before, where the scanner sharpens by
# up to 5; those of a macro picture by what tissue differs from glass, 50 and more.
_ALIKE_RMS = 8.0
_UNEXPLAINED = 0.25
_CORRELATION = 0.9


def true_levels(info: SlideInfo, pages: Sequence[TiffPage | None], read: Read) -> tuple[int, ...]:
    """Numbers of the levels that are smaller versions of level 0, which is always one of them.

    Parameters
    ----------
    info
        All levels that OpenSlide finds.
    pages
        The page of each, as far as it is known: without level 0's nothing is compared.
    read
        `SlideReader.read`. What cannot be read speaks neither for nor against a level.
    """
    first = pages[0]
    kept = [0]
    places = [] if first is None else _places(first)
    for level in range(1, len(info.stored_sizes)):
        if _is_smaller(info, kept[-1], level) and _looks_alike(info, kept[-1], level, places, read):
            kept.append(level)
    return tuple(kept)


def _is_smaller(info: SlideInfo, finer: int, level: int) -> bool:
    """Whether a level is smaller than a finer one, and both sides have shrunk alike."""
    sizes = info.stored_sizes
    if min(np.subtract(sizes[finer], sizes[level])) < 0 or sizes[finer] == sizes[level]:
        return False
    return shrinks_alike(info.l0_size, sizes[level])


def shrinks_alike(l0_size: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether both sides of level 0 are about the same multiple of a page's."""
    # what was rounded to whole pixels, up or down, may have been a pixel more or less
    least = max(l0 / (side + 1) for l0, side in zip(l0_size, size, strict=True))
    most = min(l0 / max(side - 1, 0.5) for l0, side in zip(l0_size, size, strict=True))
    return least <= most * (1 + _SIDES_ALIKE)


def _places(page: TiffPage) -> list[tuple[int, int]]:
    """Middles of some stored tiles of level 0, x and y in its pixels."""
    counts = page.counts.sum(axis=0).ravel()
    order = np.random.default_rng(0).permutation(len(counts))  # the same for every rank
    if page.compression == _UNCOMPRESSED:
        chosen = order[:_RANDOM_TILES]
    else:
        order = order[np.argsort(counts[order], kind="stable")[::-1]]
        chosen = order[np.unique(np.rint(np.array(_RANKS) * (len(order) - 1)).astype(int))]
    rows, cols = np.divmod(chosen, page.counts.shape[2])
    middles = []
    for col, row in zip(cols.tolist(), rows.tolist(), strict=True):
        left, top = col * page.tile[0], row * page.tile[1]
        right, bottom = min(left + page.tile[0], page.size[0]), min(top + page.tile[1], page.size[1])
        middles.append(((left + right) // 2, (top + bottom) // 2))
    return middles


def _looks_alike(info: SlideInfo, finer: int, level: int, places: Sequence[tuple[int, int]], read: Read) -> bool:
    """Whether the means of blocks of a level are about those of the same places in a finer one."""
    means = []
    for place in places:
        try:
            means.append(_block_means(info, finer, level, place, read))
        except UnreadableRegionError:
            continue
    if not means:
        return True
    larger, smaller = np.moveaxis(np.array(means), 1, 0)
    unexplained = float(((larger - smaller) ** 2).mean())
    spread = float(((larger - larger.mean(axis=0)) ** 2).mean())
    return unexplained <= max(_ALIKE_RMS**2, _UNEXPLAINED * spread) or _correlation(larger, smaller) >= _CORRELATION


def _block_means(
    info: SlideInfo, finer: int, level: int, place: tuple[int, int], read: Read
) -> npt.NDArray[np.float64]:
    """Mean colours of a block around a place, (2, 3): in the finer level, and in the other."""
    width, height = info.stored_sizes[level]
    shrinks = info.stored_downsamples[level] / info.stored_downsamples[finer]
    side = min(max(1, min(_BLOCK, int(_MOST_FINER_PIXELS / shrinks))), width, height)
    left, top = (
        int(min(max(middle / info.stored_downsamples[level] - side / 2, 0), extent - side))
        for middle, extent in zip(place, (width, height), strict=True)
    )
    corner = (round(left * info.stored_downsamples[level]), round(top * info.stored_downsamples[level]))
    finer_side = min(max(1, round(side * shrinks)), _MOST_FINER_PIXELS)
    pixels = (read(corner, finer, (finer_side, finer_side)), read(corner, level, (side, side)))
    return np.array([one.reshape(-1, 3).mean(axis=0) for one in pixels])


def _correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Correlation of colours (n, 3) around their means; -1 where either has no spread, or there are too few."""
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 0 and len(one) > len(_RANKS) // 2 else -1.0
