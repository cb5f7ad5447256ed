"""Packed records whose number grows: what an owner keeps of each tile is its record, and no Python object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_FEWEST = 1024


class RecordTable:
    """Records one after the other in one piece of memory.

    Batches hold a few records each; as arrays of their own they took several times the memory of what is in them.

    Parameters
    ----------
    dtype
        Of the records.
    """

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self._rows = np.empty(0, dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, records: npt.NDArray[np.void]) -> None:
        """Add copies of records; nobody may hold `rows` meanwhile."""
        end = self._length + len(records)
        if end > len(self._rows):
            # in place: of large pieces of memory the system moves the pages, so that they are not there twice
            self._rows.resize(max(end, len(self._rows) * 9 // 8, _FEWEST))
        self._rows[self._length : end] = records
        self._length = end

    @property
    def rows(self) -> npt.NDArray[np.void]:
        """All records, in the order in which they came: a view."""
        return self._rows[: self._length]
