"""What a rank has done by level, for all ranks' sum to tell how far the run is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.pyramid.forecast import LEVEL_TALLY_DTYPE, SLIDES_TALLY_DTYPE

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import TileArray


class WorkTally:
    """One rank's counts. Taken from any thread.

    Parameters
    ----------
    n_levels
        Of the model.
    """

    def __init__(self, n_levels: int) -> None:
        self._levels = np.zeros(n_levels, LEVEL_TALLY_DTYPE)
        self._slides = np.zeros(1, SLIDES_TALLY_DTYPE)
        self._lock = threading.Lock()

    def waits(self, n_slides: int) -> None:
        """So many slides wait to be opened as part of the work."""
        with self._lock:
            self._slides["to_open"] += n_slides

    def opened(self, seconds: float) -> None:
        """A slide was opened as part of the work, or could not be."""
        with self._lock:
            self._slides["opened"] += 1
            self._slides["busy_us"] += round(seconds * 1e6)

    def begun(self, exist: npt.NDArray[np.int64], first: TileArray, kept: npt.NDArray[np.void]) -> None:
        """A slide has begun.

        Parameters
        ----------
        exist
            Of each level, how many tiles the run may come to, (L,).
        first
            Tiles to begin with.
        kept
            Records of what earlier starts have done.
        """
        n_levels = len(self._levels)
        with self._lock:
            self._levels["exists"] += exist
            self._levels["begun"] += np.bincount(first["level"], minlength=n_levels)
            self._levels["kept"] += np.bincount(kept["level"], minlength=n_levels)

    def did(self, level: int, n: int, n_closer: int, seconds: float) -> None:
        """Tiles of a level were done, after which so many follow."""
        with self._lock:
            of_level = self._levels[level]
            of_level["done"] += n
            of_level["followed"] += n_closer
            of_level["busy_us"] += round(seconds * 1e6)

    def dropped(self, level: int, n: int) -> None:
        """Tiles of a slide that has failed are not done."""
        with self._lock:
            self._levels[level]["dropped"] += n

    def numbers(self) -> tuple[int, ...]:
        """All counts, for the way to rank 0."""
        with self._lock:
            flat = [self._slides, self._levels]
            return tuple(number for part in flat for record in part.tolist() for number in record)


def tallies_of(numbers: tuple[int, ...]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
    """Inverse of `WorkTally.numbers`: records by level (L,), and that of the slides."""
    flat = np.array(numbers, "<i8")
    of_slides = SLIDES_TALLY_DTYPE.itemsize // flat.itemsize
    return flat[of_slides:].view(LEVEL_TALLY_DTYPE), flat[:of_slides].view(SLIDES_TALLY_DTYPE)[0]
