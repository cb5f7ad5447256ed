"""Outlines as a file holds them, before anything is made of them, and which class names mean what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    Ring = npt.NDArray[np.float64]

TUMOR_CLASSES = ("tumor", "tumour", "positive", "metastasis", "metastases", "cancer", "carcinoma", "_0", "_1")
"""Names that mean tumour unless the caller names others; ``_0`` and ``_1`` are CAMELYON16's."""

EXCLUSION_CLASSES = ("exclusion", "excluded", "hole", "normal", "benign", "negative", "_2")
"""Names of what is cut out of tumour; ``_2`` is CAMELYON16's, ``normal`` CAMELYON17's."""

_FARTHEST = 2.0**40
"""No slide reaches that far, in level-0 pixels; beyond it areas lose their digits."""


@dataclass(frozen=True)
class Outline:
    """One outline of a file.

    Attributes
    ----------
    name
        Its class, "" when the file gives none.
    shell
        float64 (N, 2): l0_x, l0_y in level-0 pixels, closed implicitly.
    holes
        Rings of the same kind that are cut out.
    """

    name: str
    shell: Ring
    holes: tuple[Ring, ...] = ()

    def shifted(self, l0_corner: tuple[int, int]) -> Outline:
        """The outline of a program that counts from `l0_corner`, in level-0 pixels of the file."""
        shift = np.array(l0_corner, np.float64)
        return Outline(self.name, self.shell + shift, tuple(hole + shift for hole in self.holes))


@dataclass(frozen=True)
class LeftOut:
    """An object of a file that is no outline.

    Attributes
    ----------
    kind
        What it is instead, in a word or two: ``line``, ``point``, ``detection``.
    name
        Its class, "" when the file gives none.
    is_annotation
        Whether a person drew it; else it is what a program has measured or counted.
    """

    kind: str
    name: str = ""
    is_annotation: bool = True


@dataclass(frozen=True)
class OutlineFile:
    """What a file of outlines holds.

    Attributes
    ----------
    outlines
        In the file's order.
    left_out
        What cannot be used, in the file's order.
    """

    outlines: tuple[Outline, ...]
    left_out: tuple[LeftOut, ...] = ()

    def shifted(self, l0_corner: tuple[int, int]) -> OutlineFile:
        """Of a program that counts from `l0_corner`: the same in level-0 pixels of the file."""
        return replace(self, outlines=tuple(one.shifted(l0_corner) for one in self.outlines))


def listed(kinds: Sequence[str]) -> str:
    """Things and their numbers, the most frequent first: ``3 detections, 1 line``."""
    counted = Counter(kinds).most_common()
    return ", ".join(f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in counted)


def classes_listed(names: Iterable[str]) -> str:
    """Class names for a message, which stays one line however many and long they are."""
    shown = [f"{printable(name) or '(none)':.60}" for name in sorted(set(names))]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} others" if len(shown) > 5 else "")


@dataclass(frozen=True)
class ClassNames:
    """Which classes count, compared without regard to case.

    Attributes
    ----------
    tumor
        Names that mean tumour.
    exclusion
        Names of what is cut out of tumour.
    option, what
        By what option the caller names what is here called tumour, and what it is called there, for messages.
    """

    tumor: tuple[str, ...] = TUMOR_CLASSES
    exclusion: tuple[str, ...] = EXCLUSION_CLASSES
    option: str = "--tumor-class"
    what: str = "tumour"

    @classmethod
    def from_caller(cls, tumor: Sequence[str] = (), exclusion: Sequence[str] = ()) -> ClassNames:
        """The caller's names in place of the usual ones, where there are any.

        Raises
        ------
        UsageError
            When a name means both.
        """
        # a name that the caller calls tumour is no exclusion any more, and the other way round
        chosen = cls(
            tuple(tumor) or tuple(name for name in cls().tumor if name not in _folded(exclusion)),
            tuple(exclusion) or tuple(name for name in cls().exclusion if name not in _folded(tumor)),
        )
        if both := sorted(_folded(chosen.tumor) & _folded(chosen.exclusion)):
            raise UsageError(f"class {both[0]!r} cannot be tumour and excluded from it; name it once")
        return chosen

    def is_tumor(self, name: str) -> bool:
        """Whether a class means tumour; of QuPath's derived classes (``Tumor: CK+``) the base counts."""
        return bool({name.casefold(), _base(name)} & _folded(self.tumor))

    def is_exclusion(self, name: str) -> bool:
        """Whether a class is cut out of tumour."""
        return not self.is_tumor(name) and bool({name.casefold(), _base(name)} & _folded(self.exclusion))


def _base(name: str) -> str:
    return name.partition(":")[0].strip().casefold()


def _folded(names: Sequence[str]) -> set[str]:
    return {name.casefold() for name in names}


def ring_of(points: object) -> Ring:
    """A ring from a sequence of points ``[x, y, ...]``.

    Raises
    ------
    ValueError
        When it is no list of points, or one lies where no slide can be.
    """
    if not isinstance(points, list | tuple):
        raise ValueError("a ring must be a list of points")
    try:
        ring = np.array([(float(point[0]), float(point[1])) for point in points], np.float64).reshape(-1, 2)
    except OverflowError:  # JSON knows numbers that no float holds
        ring = np.array([[np.inf, np.inf]])
    if not (np.abs(ring) <= _FARTHEST).all():
        raise ValueError("a ring has a point that is not finite, or farther away than any slide reaches")
    return ring
