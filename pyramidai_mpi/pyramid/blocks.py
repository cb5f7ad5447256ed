"""Tiles that are blocks of windows: what is known of their cells, and which blocks follow from that.

A task for a block says of each coarser cell over it whether it is to be refined, and its score: the window of a coarser
cell is that of one of the finer cells in it, which is not looked at again, and cells that are not refined, and those of
the ring around the block, count as neighbours with the coarser score. The first blocks look at their rings themselves.
So a block needs no message from another, and whatever rank does it, and whenever, the same comes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyramidai_mpi.base.types import ANY_SCORE, TILE_DTYPE, Decision, Mode, WindowState, prediction_dtype
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.pyramid.refining import Ring, in_doubt
from pyramidai_mpi.pyramid.rule import zooms_in

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.pyramid.refining import Band
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.pyramid.run_levels import RunLevels

_NOTHING, _REFINE, _KEEP = 0, 1, 2
"""What a task says of a coarser cell: there is none, its cells are to be looked at, its score is to stand."""


class Known(NamedTuple):
    """What is known of the cells of one block and its ring before it is looked at, both (B + ring, B + ring).

    Attributes
    ----------
    score
        float32, NaN where there is none.
    state
        uint8, values of `WindowState`; `WindowState.LOOKED` where a window is to be looked at.
    """

    score: npt.NDArray[np.float32]
    state: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BlockRule:
    """Which tiles a run with strides looks at.

    Attributes
    ----------
    levels
        Of the run.
    n_classes, positive_class
        Number of classes, and the one whose probability is the score.
    mode
        Which tiles of the model's levels are looked at.
    band
        Which cells are refined where there are strides in steps.
    n_compared
        Of a run whose blocks are approximate, how many of a block's windows are computed by themselves, too, in some of
        the blocks; else 0.
    """

    levels: RunLevels
    n_classes: int
    positive_class: int
    mode: Mode
    band: Band | None = None
    n_compared: int = 0

    @property
    def record(self) -> np.dtype[np.void]:
        """`prediction_dtype`, then ``score`` and ``state`` of the cells of a block with its ring by row and column.

        Smaller blocks fill the first of them. Of a tile that is one window there is nothing in them. Where windows are
        compared, ``compared`` has scores of some of them, in a block and by themselves, NaN where there are fewer.
        """
        shape = (max(self.side(n) for n in range(self.levels.n_blocks)),) * 2
        cells = [("score", "<f4", shape), ("state", "u1", shape)]
        compared = [("compared", "<f4", (self.n_compared, 2))] if self.n_compared else []
        return np.dtype([*prediction_dtype(self.n_classes).descr, *cells, *compared])

    @property
    def task(self) -> np.dtype[np.void]:
        """`TILE_DTYPE`, then ``given`` and ``wanted``: scores of the coarser cells over it, and what to do there."""
        steps = (n - 1 for n in range(self.levels.n_blocks) if self.is_step(n))
        most = max((self._coarser_cells(n) + self.ring(n).width for n in steps), default=0)
        if not most:
            return TILE_DTYPE
        return np.dtype([*TILE_DTYPE.descr, ("given", "<f4", (most, most)), ("wanted", "u1", (most, most))])

    @property
    def start(self) -> Mode:
        """How a run begins: strides in steps with roots whatever the mode, as its levels are these steps alone."""
        return Mode.PYRAMID if self.band is not None and self.mode is Mode.REFERENCE else self.mode

    def is_step(self, level: int) -> bool:
        """Whether cells of a level's blocks are refined: there is a finer stride."""
        return self.band is not None and 0 < level < self.levels.n_blocks

    def ring(self, level: int) -> Ring:
        """What a block of a level knows around it."""
        return self.levels.ring_under(level) if self.is_step(level) else Ring()

    def reads_ring(self, level: int) -> bool:
        """Whether blocks of a level look at their rings themselves: those of the coarsest stride."""
        return self.is_step(level) and not self.is_step(level + 1)

    def side(self, level: int) -> int:
        """Cells along the side of a block of a level with its ring."""
        return self.levels.each[level].block + self.ring(level).width

    def first(self, rule: TileRule) -> TileArray:
        """Tiles to begin a slide with."""
        return self._fresh(rule.first_tiles(self.start))

    def closer(self, rule: TileRule, records: npt.NDArray[np.void]) -> TileArray:
        """Tiles that follow from records."""
        found = [np.empty(0, self.task)]
        for level in np.unique(records["level"]).tolist():
            own = records[records["level"] == level]
            if self.is_step(level):
                found.append(self._finer(rule, level, own))
            elif level > 0:
                found.append(self._fresh(rule.children(own[zooms_in(own, self.start)])))
        return np.concatenate(found)

    def cells(self, rule: TileRule, level: int, tiles: TileArray, ring: Ring | None = None) -> npt.NDArray[np.bool_]:
        """Which cells of blocks exist, bool (N, B, B), or with a ring around: on the slide, in a square with tissue.

        Of strides in steps, whose squares are smaller, also in one so near to tissue that windows see it: the rim would
        else be cut closer than a uniform stride does, and cells there had no neighbours to be compared with.
        """
        grid, one, ring = rule.grid, self.levels.each[level], ring or Ring()
        tissue = rule.tissue.squares if self.band is None else rule.tissue.squares_near
        step = np.arange(-ring.before, one.block + ring.after)
        exists = []
        for name, axis in (("row", 0), ("col", 1)):
            cell = tiles[name].astype(np.int64)[:, None] * one.block + step
            square = cell * one.cell // self.levels.base
            l0_extent = (grid.l0_height, grid.l0_width)[axis]
            inside = (cell >= 0) & (cell * one.cell * grid.downsample(level) < l0_extent)
            inside &= square < tissue.shape[axis]
            exists.append((np.where(inside, square, 0), inside))
        (rows, row_inside), (cols, col_inside) = exists
        there = tissue[rows[:, :, None], cols[:, None, :]]
        return np.asarray(there & row_inside[:, :, None] & col_inside[:, None, :])

    def known(self, rule: TileRule, task: np.void) -> Known:
        """What is known of one block and its ring before it is looked at."""
        level = int(task["level"])
        one, ring = self.levels.each[level], self.ring(level)
        exists = self.cells(rule, level, np.array([task]), ring)[0]
        score = np.full(exists.shape, np.nan, np.float32)
        state = np.where(exists, np.uint8(WindowState.LOOKED), np.uint8(WindowState.NOTHING))
        if not self.is_step(level + 1):
            return Known(score, state)
        coarser, above = self._coarser_cells(level), self.levels.each[level + 1]
        times = above.cell // one.cell
        side = coarser + ring.width
        # the coarser cell over each cell; over those of the ring, the ring of the coarser cells
        over = (np.arange(-ring.before, one.block + ring.after) // times) + ring.before
        at = np.ix_(over, over)
        given, wanted = task["given"][:side, :side][at], task["wanted"][:side, :side][at]
        # the finer cell whose window is the coarser cell's own
        own = (one.margin - above.margin) // one.cell
        is_own = np.arange(-ring.before, one.block + ring.after) % times == own
        kept = exists & (wanted == _KEEP)
        same = exists & (wanted == _REFINE) & np.isfinite(given) & is_own[:, None] & is_own[None, :]
        in_ring = np.ones_like(exists)
        in_ring[ring.inner(one.block), ring.inner(one.block)] = False
        state[in_ring] = WindowState.NOTHING  # it is not looked at: the coarser scores must do
        kept |= in_ring & exists & np.isfinite(given)
        same &= ~in_ring
        state[kept], state[same] = WindowState.COARSER, WindowState.SAME
        score[kept | same] = given[kept | same]
        return Known(score, state)

    def decide(
        self, level: int, score: npt.NDArray[np.float32], state: npt.NDArray[np.uint8], threshold: float
    ) -> npt.NDArray[np.uint8]:
        """Decisions on blocks with their rings (N, B + ring, B + ring).

        Unreadable where no cell of the block has a score; else at the finest stride positive where the score of any
        passes, at others zoomed into where any is refined.
        """
        own = self._own(level, score)
        enough = self._refined(level, score, state) if self.is_step(level) else passes(own, threshold)
        decision = np.where(enough.any(axis=(1, 2)), np.uint8(Decision.ZOOM), np.uint8(Decision.STOP))
        decision[~np.isfinite(own).any(axis=(1, 2))] = Decision.UNREADABLE
        return decision

    def best(self, score: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Highest score of each block (N, B, B), float32 (N,), NaN where none has a score."""
        flat = np.where(np.isfinite(score), score, -np.inf).reshape(len(score), -1).max(axis=1, initial=-np.inf)
        return np.where(np.isfinite(flat), flat, np.nan).astype(np.float32)

    def contradictions(self, records: npt.NDArray[np.void], threshold: float) -> npt.NDArray[np.bool_]:
        """Records of one level with blocks that do not say of a block what its cells say."""
        level = int(records["level"][0])
        side = self.side(level)
        score, state = (records[name][:, :side, :side] for name in ("score", "state"))
        known = np.isin(state, ANY_SCORE)
        best, said = self.best(self._own(level, score)), records["probability"][:, self.positive_class]
        return np.asarray(
            (np.isfinite(score) != known).any(axis=(1, 2))
            | ~((best == said) | (np.isnan(best) & np.isnan(said)))
            | (self.decide(level, score, state, threshold) != records["decision"])
        )

    def _refined(
        self, level: int, score: npt.NDArray[np.float32], state: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.bool_]:
        """Which cells of blocks, given with their rings, are to be refined: bool (N, B, B)."""
        assert self.band is not None
        return in_doubt(score, state, self.band, self.ring(level))

    def _own(self, level: int, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The cells of blocks (N, B, B) without their rings."""
        inner = self.ring(level).inner(self.levels.each[level].block)
        return np.asarray(values[:, inner, inner])

    def _coarser_cells(self, level: int) -> int:
        """Cells of the next coarser level along the side of a block."""
        each = self.levels.each
        return each[level].side // each[level + 1].cell

    def _finer(self, rule: TileRule, level: int, records: npt.NDArray[np.void]) -> TileArray:
        """Blocks under cells that are to be refined."""
        grid, ring, side = rule.grid, self.ring(level), self.side(level)
        parts, coarser, finer_ring = grid.factor(level), self._coarser_cells(level - 1), self.ring(level - 1)
        score, state = (records[name][:, :side, :side] for name in ("score", "state"))
        refined = self._refined(level, score, state)
        is_there = self._own(level, state) != WindowState.NOTHING
        own_wanted = np.where(refined, _REFINE, np.where(is_there, _KEEP, _NOTHING))
        # around them one more cell on each side, for the rings of finer blocks, as far as this block knows them
        pads = ((0, 0), *((1 - ring.before, 1 - ring.after),) * 2)
        score = np.pad(score, pads, constant_values=np.nan)
        wanted = np.pad(own_wanted, ((0, 0), (1, 1), (1, 1)), constant_values=_NOTHING)
        found = [np.empty(0, self.task)]
        cols, rows = grid.shape(level - 1)
        for down in range(parts):
            for right in range(parts):
                inner = np.s_[:, down * coarser : (down + 1) * coarser, right * coarser : (right + 1) * coarser]
                col, row = records["col"] * parts + right, records["row"] * parts + down
                chosen = refined[inner].any(axis=(1, 2)) & (col < cols) & (row < rows)
                tasks = np.zeros(int(chosen.sum()), self.task)
                tasks["level"], tasks["col"], tasks["row"] = level - 1, col[chosen], row[chosen]
                wide = coarser + finer_ring.width
                first_row, first_col = (k * coarser + 1 - finer_ring.before for k in (down, right))
                outer = np.s_[:, first_row : first_row + wide, first_col : first_col + wide]
                tasks["given"][:, :wide, :wide] = score[outer][chosen]
                tasks["wanted"][:, :wide, :wide] = wanted[outer][chosen]
                found.append(tasks)
        return np.concatenate(found)

    def _fresh(self, tiles: TileArray) -> TileArray:
        """Tasks for tiles of which nothing is known."""
        tasks = np.zeros(len(tiles), self.task)
        for name in TILE_DTYPE.names or ():
            tasks[name] = tiles[name]
        if self.task != TILE_DTYPE:
            tasks["given"], tasks["wanted"] = np.nan, _REFINE
        return tasks
