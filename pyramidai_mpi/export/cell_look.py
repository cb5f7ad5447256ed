"""The last look at every cell of a result with strides, a band of rows at a time.

A slide has 10^7 cells at stride 16: they are read where they are drawn, from the rows of blocks that lie there. Blocks
are stored row by row, so a band of cells is a slice of every level's tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.types import OWN_SCORE
from pyramidai_mpi.export.cells import cell_grid, decides, is_dense, outside
from pyramidai_mpi.export.last_look import read_last_look
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.pyramid.last_look import NEVER, LastLook
from pyramidai_mpi.store.results.tables import damage_is_named, iter_column

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.pyramid.grid import Grid
    from pyramidai_mpi.store.results.tables import Header, ResultFile

BAND = 256
"""Rows of cells that are painted at once."""
_KEPT_BYTES = 1 << 26
_CHUNK_ROWS = 16384
"""Rows of a table that are stored, and so unpacked, together."""


@dataclass(frozen=True)
class CellRows:
    """Some rows of the map.

    Attributes
    ----------
    score
        float32 (n, cols): of each cell the score of the last look at it, NaN where there is none.
    look
        int8 (n, cols): level of the window that gave it, `NEVER` where there is none.
    positive
        bool (n, cols): where a window of the network of level 0 gave a score that passes.
    """

    score: npt.NDArray[np.float32]
    look: npt.NDArray[np.int8]
    positive: npt.NDArray[np.bool_]


class CellLook:
    """Score of the last look at every cell of the finest stride: of the finest window over it that was looked at.

    Like `pyramid.last_look.LastLook`, but read from the file as it is asked for. A pixel of a picture that holds many
    cells shows the highest of their scores, so that no spot is lost.

    Parameters
    ----------
    file, header
        The open result, which has strides.
    """

    def __init__(self, file: ResultFile, header: Header) -> None:
        self._header = header
        self.grid: Grid = cell_grid(header)
        cols, rows = self.grid.shape(0)
        self.shape = rows, cols
        self.l0_tile_side = self.grid.l0_side(0)
        self._levels = [_LevelBand(file, header, self.grid, n) for n in range(len(header.levels))]
        self._decides = [n for n in range(len(header.levels)) if decides(header, n)]
        self._last: tuple[tuple[int, int, int, float], CellRows] | None = None

    def rows(self, top: int, bottom: int) -> CellRows:
        """Rows `top` to `bottom` (excluded) of the map.

        Raises
        ------
        InputError
            When the result is damaged.
        """
        score = np.full((bottom - top, self.shape[1]), np.nan, np.float32)
        look = np.full(score.shape, NEVER, np.int8)
        for n in reversed(range(len(self._levels))):
            own = self._levels[n].scores(top, bottom, self.shape[1])
            seen = np.isfinite(own)
            score[seen] = own[seen]
            look[seen] = n
        positive = passes(score, self._header.levels[0].threshold) & np.isin(look, self._decides)
        return CellRows(score, look, positive)

    @cached_property
    def n_positive(self) -> int:
        """Positive cells."""
        rows = self.shape[0]
        return sum(int(self.rows(top, min(top + BAND, rows)).positive.sum()) for top in range(0, rows, BAND))

    def scores(self, top: int, bottom: int, width: int, downsample: float) -> npt.NDArray[np.float32]:
        """As `LastLook.scores`: rows `top` to `bottom` (excluded) of a picture `width` pixels wide, float32."""
        return self._drawn(top, bottom, width, downsample).score

    def looks(self, top: int, bottom: int, width: int, downsample: float) -> npt.NDArray[np.int8]:
        """Like `scores`, of the finest level looked at."""
        return self._drawn(top, bottom, width, downsample).look

    def positives(self, top: int, bottom: int, width: int, downsample: float) -> npt.NDArray[np.bool_]:
        """Like `scores`, whether any cell is positive."""
        return self._drawn(top, bottom, width, downsample).positive

    def _drawn(self, top: int, bottom: int, width: int, downsample: float) -> CellRows:
        asked = (top, bottom, width, downsample)
        if self._last is None or self._last[0] != asked:
            at_once = max(1, int(BAND * self.l0_tile_side / downsample))
            bands = [
                self._picture_rows(first, min(first + at_once, bottom), width, downsample)
                for first in range(top, bottom, at_once)
            ]
            joined = (np.concatenate([getattr(one, name) for one in bands]) for name in ("score", "look", "positive"))
            self._last = asked, CellRows(*joined)
        return self._last[1]

    def _picture_rows(self, top: int, bottom: int, width: int, downsample: float) -> CellRows:
        ratio = downsample / self.l0_tile_side
        rows, cols = _Span(top, bottom, ratio, self.shape[0]), _Span(0, width, ratio, self.shape[1])
        found = self.rows(rows.first, rows.end)
        part = np.s_[:, cols.first : cols.end]
        # as bytes without sign NEVER is above every level, so that the finest is the least
        look = _gathered(found.look[part].view(np.uint8), rows, cols, np.minimum).view(np.int8)
        return CellRows(
            _gathered(found.score[part], rows, cols, np.fmax),
            look,
            _gathered(found.positive[part], rows, cols, np.logical_or),
        )


def looks_of(file: ResultFile, header: Header) -> LastLook | CellLook:
    """The last look at every place of an open result: at its level-0 tiles, or at its cells where it has strides.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    return CellLook(file, header) if is_dense(header) else read_last_look(file, header)


class _Span:
    """Which cells lie under the pixels `first` to `last` (excluded) of a row or column of a picture.

    Parameters
    ----------
    ratio
        Cells per pixel.
    extent
        How many cells there are.
    """

    def __init__(self, first: int, last: int, ratio: float, extent: int) -> None:
        self.is_wide = ratio > 1
        pixels = np.arange(first, last)
        # a picture may end one pixel past the last cell when the cell's side is not a whole number of level-0 pixels
        begin = np.minimum(((pixels if self.is_wide else pixels + 0.5) * ratio).astype(np.int64), extent - 1)
        self.first = int(begin[0])
        self.end = min(extent, max(int(begin[-1]) + 1, math.ceil(last * ratio) if self.is_wide else 0))
        self.begin = begin - self.first


def _gathered(values: npt.NDArray[Any], rows: _Span, cols: _Span, best: np.ufunc) -> npt.NDArray[Any]:
    """A picture of cells: of those under a pixel the best, or where pixels are smaller the one under its middle."""
    if not rows.is_wide:
        return np.asarray(values[np.ix_(rows.begin, cols.begin)])
    return np.asarray(best.reduceat(best.reduceat(values, rows.begin, axis=0), cols.begin, axis=1))


class _LevelBand:
    """The cells of one level by rows."""

    def __init__(self, file: ResultFile, header: Header, grid: Grid, level: int) -> None:
        self._file, self._level, self._record = file, level, header.levels[level]
        self._column = header.score_column
        self._times = grid.span(level)
        self._block = self._record.block
        self._cols, n_rows = header.grid.shape(level)
        counts = np.zeros(n_rows, np.int64)
        for index in iter_column(file, level, "index"):
            if (index >= (self._cols, n_rows)).any():
                raise outside(file, level)
            counts += np.bincount(index[:, 1], minlength=n_rows)
        self._ends = np.concatenate([[0], np.cumsum(counts)])
        self._kept_from = 0
        self._kept: tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]] | None = None

    def scores(self, top: int, bottom: int, width: int) -> npt.NDArray[np.float32]:
        """Scores of this level's own windows on rows of the finest cells, float32 (bottom - top, width)."""
        side = self._times * self._block
        first = top // side
        last = min(-(-bottom // side), len(self._ends) - 1)
        own = np.full((last - first, self._block, self._cols, self._block), np.nan, np.float32)
        index, score = self._rows(int(self._ends[first]), int(self._ends[last]))
        own[index[:, 1].astype(np.int64) - first, :, index[:, 0].astype(np.int64), :] = score
        flat = own.reshape((last - first) * self._block, self._cols * self._block)
        start = top // self._times - first * self._block
        count = -(-bottom // self._times) - top // self._times
        fine = flat[start : start + count].repeat(self._times, axis=0).repeat(self._times, axis=1)
        shift = top % self._times
        found = np.full((bottom - top, width), np.nan, np.float32)
        part = fine[shift : shift + bottom - top, :width]
        found[: part.shape[0], : part.shape[1]] = part
        return found

    def _rows(self, first: int, last: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        """Columns and rows of tiles, and the scores of their cells (n, B, B)."""
        kept = self._kept
        if kept is None or first < self._kept_from or last > self._kept_from + len(kept[0]):
            begin, end = self._aligned(first, last)
            self._kept = None  # so that there are never two
            with damage_is_named(self._file):
                kept = self._read(begin, end)
            self._kept_from, self._kept = begin, kept
        part = slice(first - self._kept_from, last - self._kept_from)
        return kept[0][part], kept[1][part]

    def _aligned(self, first: int, last: int) -> tuple[int, int]:
        """Whole chunks, so that none is unpacked again for the next band, as far as memory allows."""
        end = min(-(-last // _CHUNK_ROWS) * _CHUNK_ROWS, int(self._ends[-1]))
        most = max(1, _KEPT_BYTES // (5 * self._record.side**2))
        if end - first <= most:
            begin = max(first // _CHUNK_ROWS * _CHUNK_ROWS, end - most)
            return min(begin, first), end
        return first, max(last, first + most)

    def _read(self, first: int, last: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        group = self._file[f"levels/{self._level}"]
        index = group["index"][first:last]
        if self._block == 1:
            return index, group["probability"][first:last][:, self._column, None, None]
        inner = np.s_[:, self._record.inner, self._record.inner]
        looked = np.isin(group["state"][first:last][inner], OWN_SCORE)
        return index, np.where(looked, group["score"][first:last][inner], np.float32(np.nan))
