"""What strides in steps make of a slide, found from the map of all its finest windows.

A run over strides in steps looks at blocks of cells, the coarsest first, and at finer cells only where
`refining.in_doubt` says so. Its windows are all among those of the finest stride (see `grid.stride_margin`). So the map
of these tells, to the bit, which windows such a run looks at and which map it gives: any band can be tried on a slide
that was analysed once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.types import OWN_SCORE, WindowState
from pyramidai_mpi.pyramid.refining import Ring, in_doubt

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.pyramid.dense_map import DenseMap
    from pyramidai_mpi.pyramid.refining import Band
    from pyramidai_mpi.pyramid.run_levels import RunLevel, RunLevels

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RefinedMap:
    """What a run over strides in steps gives of one slide.

    Attributes
    ----------
    map
        Scores by cell of the finest stride.
    windows
        How many windows of each stride are looked at, the finest first. The window of a coarser cell counts there
        alone; windows of a ring, which several blocks look at, count as often as they are looked at.
    """

    map: DenseMap
    windows: tuple[int, ...]

    @property
    def n_windows(self) -> int:
        """Windows of all strides."""
        return sum(self.windows)


def refine(full: DenseMap, tissue: Bools, levels: RunLevels, band: Band, *, beyond: float = float("nan")) -> RefinedMap:
    """Play a run that begins with blocks of the coarsest stride on the map of all windows of the finest.

    Parameters
    ----------
    full
        All windows of the finest stride in cells with tissue, NaN where one could not be read.
    tissue
        bool (rows, cols): which squares of `RunLevels.base` hold tissue. Elsewhere there are no cells.
    levels
        The run's, all strides (`run_levels.stepped_levels`, not under a pyramid).
    band
        Which cells are refined.
    beyond
        Score of windows that are not in the map because the finer cell that they stand for lies off the slide, though
        the coarser one meets it. NaN takes them for unreadable, so that such cells are refined.

    Raises
    ------
    ValueError
        When the map is of another stride, or the tissue of another slide.
    """
    finest, coarsest = levels.each[0], levels.each[-1]
    if (full.cell, full.window) != (finest.cell, levels.window):
        raise ValueError(f"a map of stride {full.cell}, where strides from {finest.cell} on were asked for")
    times = levels.base // finest.cell
    if levels.base % coarsest.cell or tissue.shape != tuple(-(-extent // times) for extent in full.score.shape):
        raise ValueError(f"tissue of {tissue.shape} squares of {levels.base} px, and a map of {full.score.shape} cells")
    cells: _Cells | None = None
    windows = []
    for n in range(len(levels.each) - 1, -1, -1):
        one, ring = levels.each[n], levels.ring_under(n) if n else Ring()
        seen = _seen(full, one.cell // finest.cell, beyond)
        exists = _spread(tissue, levels.base // one.cell, seen.score.shape)
        cells = _roots(seen, exists, one, ring) if cells is None else _finer(seen, exists, one, ring, cells)
        windows.append(cells.n_windows)
        if n:
            cells = replace(cells, refined=_refined(cells, band))
    assert cells is not None
    return RefinedMap(replace(full, score=cells.score, stride=cells.stride), tuple(windows[::-1]))


@dataclass(frozen=True)
class _Cells:
    """All cells of a stride, and the same cells by block.

    Attributes
    ----------
    score, state, stride
        (rows, cols): what is known of each, as `refining.in_doubt` has it, and the stride that says so, 0 for nothing.
    given
        float32 (block rows, block cols, B + ring, B + ring): the scores that each block knows.
    """

    one: RunLevel
    ring: Ring
    score: Floats
    state: npt.NDArray[np.uint8]
    stride: npt.NDArray[np.uint16]
    given: Floats
    n_windows: int
    refined: Bools | None = None


def _seen(full: DenseMap, times: int, beyond: float) -> DenseMap:
    """What all windows of a coarser stride say."""
    seen = full.subsample(times)
    first = (full.margin - seen.margin) // full.cell
    rows, cols = (len(range(first, extent, times)) for extent in full.score.shape)
    seen.score[rows:], seen.score[:, cols:] = beyond, beyond
    return seen


def _roots(seen: DenseMap, exists: Bools, one: RunLevel, ring: Ring) -> _Cells:
    score = np.where(exists, seen.score, np.float32(np.nan))
    state = np.where(exists, _outcome(seen), np.uint8(WindowState.NOTHING))
    looked = _in_blocks(exists, one.block, ring, False)
    looked &= _inner(looked, one.block, ring).any(axis=(2, 3), keepdims=True)  # a block without tissue is none
    stride = _where_known(score, np.uint16(one.cell))
    return _Cells(one, ring, score, state, stride, _in_blocks(score, one.block, ring, np.nan), int(looked.sum()))


def _finer(seen: DenseMap, exists: Bools, one: RunLevel, ring: Ring, coarser: _Cells) -> _Cells:
    assert coarser.refined is not None
    times, shape = coarser.one.cell // one.cell, seen.score.shape
    asked = _spread(coarser.refined, times, shape) & exists
    # of the cells within a coarser one that which has its window; where that could not be read, it is tried again
    own = (one.margin - coarser.one.margin) // one.cell
    same = np.zeros(shape, bool)
    same[own::times, own::times] = True
    same = np.asarray(same & asked & np.isfinite(_spread(coarser.score, times, shape)))
    outcome = np.where(same, np.uint8(WindowState.SAME), _outcome(seen))
    kept = np.where(exists, np.uint8(WindowState.COARSER), np.uint8(WindowState.NOTHING))
    score = np.where(asked, seen.score, _spread(coarser.score, times, shape))
    stride = _where_known(score, np.where(asked, np.uint16(one.cell), _spread(coarser.stride, times, shape)))
    given = _in_blocks(score, one.block, ring, np.nan)
    if ring.width:
        around = np.ones(given.shape[2:], bool)
        around[ring.inner(one.block), ring.inner(one.block)] = False
        given[:, :, around] = _known_above(given.shape, one, ring, coarser)[:, :, around]
    return _Cells(one, ring, score, np.where(asked, outcome, kept), stride, given, int((asked & ~same).sum()))


def _known_above(shape: tuple[int, ...], one: RunLevel, ring: Ring, coarser: _Cells) -> Floats:
    """Of every cell of every block with its ring the score that the coarser block knows over it; NaN for none."""
    times, parts = coarser.one.cell // one.cell, coarser.one.side // one.side
    # one more cell on the sides where the coarser block has no ring, so that all places are there
    pads = (1 - coarser.ring.before, 1 - coarser.ring.after)
    known = np.pad(coarser.given, ((0, 0), (0, 0), pads, pads), constant_values=np.nan)
    step = np.arange(-ring.before, one.block + ring.after)
    blocks, places = [], []
    for n_blocks in shape[:2]:
        number = np.arange(n_blocks)
        blocks.append(number // parts)
        places.append((number % parts * one.block)[:, None] // times + step // times + 1)
    rows, cols = places
    return np.asarray(
        known[blocks[0][:, None, None, None], blocks[1][:, None, None], rows[:, None, :, None], cols[:, None, :]]
    )


def _refined(cells: _Cells, band: Band) -> Bools:
    """Which cells are to be refined, bool (rows, cols)."""
    block, ring = cells.one.block, cells.ring
    # of a ring the score alone counts, whatever it is the score of
    state = np.where(np.isfinite(cells.given), np.uint8(WindowState.COARSER), np.uint8(WindowState.NOTHING))
    own = _in_blocks(cells.state, block, Ring(), np.uint8(WindowState.NOTHING))
    _inner(state, block, ring)[:] = own
    chosen = np.isin(own, (*OWN_SCORE, WindowState.UNREADABLE)).any(axis=(2, 3))
    found = np.zeros(own.shape, bool)
    found[chosen] = in_doubt(cells.given[chosen], state[chosen], band, ring)
    rows, cols = cells.state.shape
    n_rows, n_cols = chosen.shape
    whole = found.swapaxes(1, 2).reshape(n_rows * block, n_cols * block)
    return np.asarray(whole[:rows, :cols])


def _outcome(seen: DenseMap) -> npt.NDArray[np.uint8]:
    return np.where(np.isnan(seen.score), np.uint8(WindowState.UNREADABLE), np.uint8(WindowState.LOOKED))


def _where_known(score: Floats, stride: Any) -> npt.NDArray[np.uint16]:
    return np.where(np.isnan(score), np.uint16(0), stride).astype(np.uint16)


def _in_blocks(values: npt.NDArray[Any], block: int, ring: Ring, filler: Any) -> npt.NDArray[Any]:
    """Values of cells (rows, cols) by block with its ring, (block rows, block cols, B + ring, B + ring)."""
    ends = [(ring.before, -extent % block + ring.after) for extent in values.shape]
    padded = np.pad(values, ends, constant_values=filler)
    wide = block + ring.width
    views = np.lib.stride_tricks.sliding_window_view(padded, (wide, wide))
    return np.array(views[::block, ::block])


def _inner(blocks: npt.NDArray[Any], block: int, ring: Ring) -> npt.NDArray[Any]:
    """The cells of blocks without their rings."""
    return blocks[:, :, ring.inner(block), ring.inner(block)]


def _spread(values: npt.NDArray[Any], times: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Values of coarser cells by finer cell, cut to `shape`."""
    return values.repeat(times, axis=0).repeat(times, axis=1)[: shape[0], : shape[1]]
