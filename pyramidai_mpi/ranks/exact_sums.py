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
_BLOCK = 1 << 14
_FITS_MANTISSA = 2.0**51
_ONES = 1.5 * 2.0**52
"""Added to a smaller number it leaves no bits for fractions: the sum is rounded, to even where it lies between two, and
its last bits are the whole number. No conversion is as quick."""
_ONES_AS_WHOLE = np.array(_ONES).view(np.int64)[()]


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
        flat = [np.asarray(array).reshape(-1) for array in term]
        largest = [
            self._largest(number, name, array) for name, array in zip(self.sizes, flat, strict=True)
        ]  # all of them first: a term counts whole or not at all
        end = 0
        for array, most in zip(flat, largest, strict=True):
            self._add_rounded(self.whole[end : end + array.size], array, most)
            end += array.size

    def _largest(self, number: int, name: str, array: npt.NDArray[np.floating]) -> float:
        """Largest absolute value, in multiples of 2**-bits."""
        if array.size != self.sizes[name]:
            raise ValueError(f"{name}: {array.size} numbers, expected {self.sizes[name]}")
        ends = (array.max(initial=0.0), -array.min(initial=0.0))  # both NaN if any is
        largest = float(max(ends)) * 2.0**self.bits
        if not largest < self._most:
            found = f"reaches {largest / 2.0**self.bits:.3g}" if np.isfinite(largest) else "is not a finite number"
            raise InputError(f"{self._what} {number}: {name} {found}; try a lower learning rate, or look at its input")
        return largest

    def _add_rounded(self, whole: npt.NDArray[np.int64], array: npt.NDArray[np.floating], largest: float) -> None:
        """Add an array, rounded, block by block: a block stays in the processor's cache from step to step."""
        scaled = np.empty(min(_BLOCK, array.size))
        for start in range(0, array.size, _BLOCK):
            part = array[start : start + _BLOCK]
            block = scaled[: part.size]
            np.copyto(block, part)
            block *= 2.0**self.bits
            if largest < _FITS_MANTISSA:
                block += _ONES
                whole[start : start + part.size] += block.view(np.int64) - _ONES_AS_WHOLE
            else:
                whole[start : start + part.size] += np.rint(block, out=block).astype(np.int64)

    def values(self, whole: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float64]]:
        """Real numbers of whole ones, one flat array a name."""
        real = whole.astype(np.float64)
        real *= 2.0**-self.bits
        return np.split(real, np.cumsum(list(self.sizes.values()))[:-1])
