"""Facts: what of a run decides its result, and how two of them differ in words."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

_MOST_SHOWN = 60


class Kind(Enum):
    """What a fact is of, which says what is done where it differs."""

    SLIDE = "slide"
    MODEL = "model"
    SETTING = "setting"
    VERSION = "version"
    """Of what computes. May differ within a result where the user accepts that, as the last bits then may."""
    PROCESSOR = "processor"
    """May differ, and is told: the ranks of one job may run on several kinds, too."""


@dataclass(frozen=True)
class Fact:
    """One row of the table.

    Attributes
    ----------
    name
        In the manifest, and among the attributes of `/execution`.
    words
        For messages.
    value
        As JSON has it: text, number, bool or a list of them. A text is empty where there is nothing.
    kind
        What it is of.
    has_own_place
        The result file holds it outside the attributes of `/execution` that the table makes.
    """

    name: str
    words: str
    value: Any
    kind: Kind
    has_own_place: bool = False


Facts: TypeAlias = tuple[Fact, ...]


@dataclass(frozen=True)
class Difference:
    """A fact of this run, and the other value that was found."""

    fact: Fact
    found: Any

    def __str__(self) -> str:
        return self.beside("now")

    def beside(self, where: str) -> str:
        """In words, which say where the other value is found."""
        values = _shown(self.found), _shown(self.fact.value)
        # a hash tells nobody anything
        if max(map(len, values)) > _MOST_SHOWN:
            return self.fact.words
        return f"{self.fact.words} ({values[0]}, {where} {values[1]})"


def description_hash(yaml_text: str) -> str:
    """Hash of a model's description without the line that says what it is for.

    No score depends on that line, and the journals and results of a package live on when it is added.
    """
    lines = yaml_text.splitlines(keepends=True)
    kept = "".join(line for line in lines if not line.startswith("intended_use:"))
    return hashlib.sha256(kept.encode()).hexdigest()


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value) or "none"
