"""Sums over ranks that are equal to the bit whoever adds what, in whatever order.

Floating-point numbers added in another order give another sum. Whole numbers do not: each term is rounded once, to a
multiple of 2**-bits, and from then on added as int64. That is also nearer to the true sum than float32 is, of many
terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

_MOST = 2.0**62


class ExactSum:
    """The part of one rank in the sums of several named arrays of real numbers.

    Parameters
    ----------
    sizes
        How many numbers each has, by name, in the order in which they are given to `add`.
    n_terms
        How many terms are added at most, on all ranks together.
    bits
        Terms are rounded to multiples of 2**-bits. A term must be below 2**(62 - bits) / n_terms.
    what
        What a term is called in errors, such as ``micro-batch``.

    Attributes
    ----------
    whole
        int64 (n,): the sums so far, in multiples of 2**-bits.
    """

    def __init__(self, sizes: Mapping[str, int], n_terms: int, bits: int = 40, what: str = "unit") -> None:
        self.sizes = dict(sizes)
        self.bits = bits
        self.whole = np.zeros(sum(self.sizes.values()), np.int64)
        self._most = _MOST / max(n_terms, 1)
        self._what = what

    def add(self, number: int, term: Sequence[npt.NDArray[np.floating]]) -> None:
        """Add the arrays of one term, of any shape.

        Raises
        ------
        InputError
            A number is not finite, or too large; names the term and the array. Nothing is added then.
        """
        rounded = [
            self._rounded(number, name, array) for name, array in zip(self.sizes, term, strict=True)
        ]  # all of them first: a term counts whole or not at all
        end = 0
        for array in rounded:
            self.whole[end : end + array.size] += array
            end += array.size

    def _rounded(self, number: int, name: str, array: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        if array.size != self.sizes[name]:
            raise ValueError(f"{name}: {array.size} numbers, expected {self.sizes[name]}")
        scaled: npt.NDArray[np.float64] = np.multiply(array.reshape(-1), 2.0**self.bits, dtype=np.float64)
        largest = np.abs(scaled).max(initial=0.0)  # NaN if any is
        if not largest < self._most:
            found = f"reaches {largest / 2.0**self.bits:.3g}" if np.isfinite(largest) else "is not a finite number"
            raise InputError(f"{self._what} {number}: {name} {found}; try a lower learning rate, or look at its input")
        np.rint(scaled, out=scaled)
        return scaled.astype(np.int64)

    def values(self, whole: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float64]]:
        """Real numbers of whole ones, one flat array a name."""
        real = np.ldexp(whole.astype(np.float64), -self.bits)
        return np.split(real, np.cumsum(list(self.sizes.values()))[:-1])
