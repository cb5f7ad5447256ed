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
_BLOCK = 1 << 15
_FITS_MANTISSA = 2.0**51


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
    memory
        int64 (n,) to keep the sums in, whatever it holds; None takes fresh memory, which costs the system's time.

    Attributes
    ----------
    whole
        int64 (n,): the sums so far, in multiples of 2**-bits.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        n_terms: int,
        bits: int = 40,
        what: str = "unit",
        memory: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.sizes = dict(sizes)
        self.bits = bits
        self.whole = np.empty(sum(self.sizes.values()), np.int64) if memory is None else memory
        self.whole[:] = 0
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
        # Added to a smaller number it leaves no bits for less than 2**-bits: the sum is rounded, to even where it lies
        # between two, and its last bits are the multiple. No conversion is as quick.
        ones = np.array(1.5 * 2.0 ** (52 - self.bits))
        ones_as_whole = ones.view(np.int64)
        buffer = np.empty(min(_BLOCK, array.size))
        for start in range(0, array.size, _BLOCK):
            part, into = array[start : start + _BLOCK], whole[start : start + _BLOCK]
            real = buffer[: part.size]
            np.copyto(real, part)
            if largest < _FITS_MANTISSA:
                real += ones
                multiples = real.view(np.int64)
                multiples -= ones_as_whole
            else:
                real *= 2.0**self.bits
                multiples = np.rint(real, out=real).astype(np.int64)
            into += multiples

    def values(self, whole: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float64]]:
        """Real numbers of whole ones, one flat array a name."""
        real = whole.astype(np.float64)
        real *= 2.0**-self.bits
        return np.split(real, np.cumsum(list(self.sizes.values()))[:-1])

    def mean_of(self, name: str, weight: float, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[np.floating]:
        """The sum of a name over a weight, flat, rounded once more to `dtype`."""
        names = list(self.sizes)
        start = sum(self.sizes[before] for before in names[: names.index(name)])
        whole = self.whole[start : start + self.sizes[name]]
        mean = np.empty(whole.size, dtype)
        buffer = np.empty(min(_BLOCK, whole.size))
        for begin in range(0, whole.size, _BLOCK):
            part = whole[begin : begin + _BLOCK]
            real = buffer[: part.size]
            np.copyto(real, part)
            real *= 2.0**-self.bits
            real /= weight
            mean[begin : begin + part.size] = real
        return mean
