"""One part of several that array jobs do on their own: which share is whose, and what its file is called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MOST_PARTS = 65536
_WORD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
_NAME = re.compile(r"(.+)\.part-([0-9]{1,9})-of-([0-9]{1,9})(\.[^.]+)?", re.DOTALL)

_LONGEST_LISTED = 2
"""Numbers in a row that are named one by one."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Part:
    """Part `number` of `of`, counted from 1.

    Raises
    ------
    UsageError
        When there is no such part.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MOST_PARTS:
            raise UsageError(f"--part {self}: expected I/N with 1 <= I <= N <= {MOST_PARTS}, such as 3/7")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def words(self) -> str:
        """For messages."""
        return f"part {self.number} of {self.of}"

    @property
    def suffix(self) -> str:
        """What tells its files from those of the other parts."""
        return f".part-{self.number}-of-{self.of}"

    def name_of(self, whole: Path) -> Path:
        """File of this part of a file to be: ``OUT.part-3-of-7.h5`` of ``OUT.h5``."""
        return whole.with_name(f"{whole.stem}{self.suffix}{whole.suffix}")

    def every_nth(self) -> slice:
        """Its share of things in a row, one in N: what lies side by side goes to different parts."""
        return slice(self.number - 1, None, self.of)

    def stretch(self, n: int) -> slice:
        """Its share of n things in a row as one stretch: what lies side by side stays together."""
        return slice(n * (self.number - 1) // self.of, n * self.number // self.of)

    def share(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Every N-th of some items, from the I-th on."""
        return items[self.every_nth()]


def parse_part(word: str) -> Part:
    """The part that ``I/N`` says.

    Raises
    ------
    UsageError
        When it is none.
    """
    found = _WORD.fullmatch(word)
    if found is None:
        raise UsageError(f"--part {word}: expected I/N with 1 <= I <= N, such as 3/7")
    return Part(int(found[1]), int(found[2]))


def named_part(path: Path) -> tuple[Path, Part] | None:
    """The whole file that a file is a part of, and which, by a name as `Part.name_of` gives it; None for another."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        return None
    try:
        part = Part(int(found[2]), int(found[3]))
    except UsageError:
        return None
    return path.with_name(f"{found[1]}{found[4] or ''}"), part


def parts_in_words(numbers: Iterable[int], of: int) -> str:
    """``part 3 of 7``, ``parts 3 and 5 of 7``, ``parts 2, 4 to 6 and 9 of 10``."""
    stretches: list[list[int]] = []
    for number in sorted(numbers):
        if stretches and number == stretches[-1][-1] + 1:
            stretches[-1].append(number)
        else:
            stretches.append([number])
    words: list[str] = []
    for one in stretches:
        words += map(str, one) if len(one) <= _LONGEST_LISTED else [f"{one[0]} to {one[-1]}"]
    if len(words) == 1:
        return f"{'part' if words[0].isdecimal() else 'parts'} {words[0]} of {of}"
    return f"parts {', '.join(words[:-1])} and {words[-1]} of {of}"
