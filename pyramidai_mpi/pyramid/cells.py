"""Which patches there are of a slide: cells of a grid with one level, with enough tissue and what else is asked.

Cells lie on the slide, at least in part; their windows may reach beyond it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.patch_order import LABELS
from pyramidai_mpi.base.types import tiles_at
from pyramidai_mpi.pyramid.draws import Draw
from pyramidai_mpi.pyramid.rule import TileRule

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.part import Part
    from pyramidai_mpi.base.types import TileArray


@dataclass(frozen=True)
class CellMarks:
    """What is known of the cells of a slide beside their tissue.

    Attributes
    ----------
    tumor
        float32 (rows, cols): share of each cell's tissue that is tumour, NaN without tissue; None where nobody says.
    label
        int8 (rows, cols): number of each cell's label, -1 for unknown; None likewise.
    wanted
        bool (rows, cols): cells that may be patches; None allows all.
    """

    tumor: npt.NDArray[np.float32] | None = None
    label: npt.NDArray[np.int8] | None = None
    wanted: npt.NDArray[np.bool_] | None = None

    def to_bytes(self) -> bytes:
        """For the way to another rank, compressed: rows, columns and which there are (int64 each), then these."""
        there = [layer for layer in (self.tumor, self.label, self.wanted) if layer is not None]
        if not there:
            return b""
        which = sum(1 << n for n, layer in enumerate((self.tumor, self.label, self.wanted)) if layer is not None)
        head = np.array([*there[0].shape, which], "<i8").tobytes()
        return zlib.compress(head + b"".join(layer.tobytes() for layer in there), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> CellMarks:
        """Inverse of `to_bytes`.

        Raises
        ------
        ValueError
            When the bytes are no marks.
        """
        if not data:
            return cls()
        try:
            plain = zlib.decompress(data)
        except zlib.error as error:
            raise ValueError(f"marks of cells that cannot be unpacked: {error}") from error
        rows, cols, which = np.frombuffer(plain[:24], "<i8").tolist()
        found: dict[str, npt.NDArray[Any]] = {}
        place = 24
        for n, (name, dtype) in enumerate((("tumor", "<f4"), ("label", "i1"), ("wanted", "?"))):
            if which >> n & 1:
                n_bytes = rows * cols * np.dtype(dtype).itemsize
                found[name] = np.frombuffer(plain[place : place + n_bytes], dtype).reshape(rows, cols)
                place += n_bytes
        if place != len(plain):
            raise ValueError(f"marks of cells of {len(plain)} bytes, expected {place}")
        return cls(**found)


@dataclass(frozen=True)
class CellRule(TileRule):
    """Which cells exist: those with enough tissue that may be patches, or some drawn from them.

    Attributes
    ----------
    n_random
        How many are drawn, without replacement, of each label where there are labels; None takes all.
    seed, quickhash
        What decides the draw: the caller's number, and the slide's quick hash.
    marks
        What is known of the cells beside their tissue.
    only
        Number of the label that is wanted; None takes all, of a draw all that are known.
    may_refuse
        Whether a cell may turn out to be no patch by its pixels; one that is drawn is then followed by another.
    """

    n_random: int | None
    seed: int
    quickhash: str
    marks: CellMarks = field(default_factory=CellMarks)
    only: int | None = None
    may_refuse: bool = False

    def candidates(self) -> npt.NDArray[np.bool_]:
        """Cells with enough tissue, bool (rows, cols)."""
        return super().roots_of_slide()

    def wanted(self) -> npt.NDArray[np.bool_]:
        """Those of them that may be patches."""
        found, marks = self.candidates(), self.marks
        if marks.wanted is not None:
            found &= marks.wanted
        if self.only is not None and marks.label is not None:
            found &= marks.label == self.only
        return found

    @cached_property
    def draws(self) -> tuple[tuple[int | None, Draw], ...]:
        """Each label that is drawn from, None where labels do not count, and its draw; none where all are taken."""
        if self.n_random is None:
            return ()
        wanted, label = self.wanted(), self.marks.label
        kinds: tuple[int | None, ...] = (None,)
        if label is not None:
            kinds = (self.only,) if self.only is not None else tuple(range(len(LABELS)))
        found = []
        for kind in kinds:
            index = np.argwhere(wanted if kind is None or label is None else wanted & (label == kind))[:, ::-1]
            draw = Draw.among(index, self.n_random, self.seed, self.quickhash, may_refuse=self.may_refuse)
            found.append((kind, draw))
        return tuple(found)

    def share_of(self, part: Part, n_roots: int) -> slice:
        """Which of the slide's cells, in row-major order, are a part's: a stretch of them.

        Each takes as long as any other, and neighbours lie in the same stored tiles.
        """
        return part.stretch(n_roots)

    def roots_of_slide(self) -> npt.NDArray[np.bool_]:
        """Cells to begin with, those of all parts, bool (rows, cols)."""
        found = self.wanted()
        if self.n_random is None:
            return found
        drawn = np.zeros_like(found)
        for _, draw in self.draws:
            first = draw.first()
            drawn[first[:, 1], first[:, 0]] = True
        return drawn

    def followers(self, refused: npt.NDArray[np.integer]) -> TileArray:
        """Cells to look at once these (k, 2), which were drawn, have turned out to be none."""
        return tiles_at(0, np.concatenate([np.empty((0, 2), np.int64), *(d.followers(refused) for _, d in self.draws)]))

    def settled(self, index: npt.NDArray[np.integer], passes: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Of cells (k, 2) that were looked at, those that were needed, bool (k,); see `Draw.settled`."""
        if self.n_random is None:
            return np.ones(len(index), bool)
        needed = np.zeros(len(index), bool)
        for _, draw in self.draws:
            needed |= draw.settled(index, passes)
        return needed
