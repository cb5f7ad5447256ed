"""Which tiles are computed a second time, by another rank: a random share of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import tile_keys
from pyramidai_mpi.pyramid.draws import mixed_bits

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import TileArray


@dataclass(frozen=True)
class AuditChoice:
    """A share of a slide's tiles, each with the same probability, whatever the others.

    It follows from slide, place and seed alone: not from what is found there, nor from who looks, when or beside what.

    Attributes
    ----------
    share
        Of all tiles, in [0, 1].
    seed
        Another one chooses others.
    quickhash
        Of the slide.
    """

    share: float
    seed: int
    quickhash: str

    def chosen(self, tiles: TileArray) -> npt.NDArray[np.bool_]:
        """Which of these tiles, with the fields of `TILE_DTYPE`, are chosen: bool (n,)."""
        if self.share >= 1:
            return np.ones(len(tiles), bool)
        return np.asarray(mixed_bits(tile_keys(tiles) ^ self._salt) < np.uint64(int(self.share * 2**64)))

    @cached_property
    def _salt(self) -> np.uint64:
        text = f"pyramidai-audit/1 {self.seed} {self.quickhash}"
        return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
