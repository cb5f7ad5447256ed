"""What is asked of explanations: which tiles of slides, and how they are explained."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_MASKS = 1 << 16
"""Of a tile."""

_POINT = re.compile(r"l0:\s*(-?\d{1,15})\s*,\s*(-?\d{1,15})\s*", re.ASCII)
_TOP = re.compile(r"top:(\d{1,9})", re.ASCII)
_MASKS = "n_masks"
"""What methods call the most masks that they draw."""


@dataclass(frozen=True)
class ExplainOrder:
    """How tiles are explained.

    Attributes
    ----------
    method
        Name of a method of `explain.methods`; empty leaves it to what the model's network allows.
    layer
        Whose maps Grad-CAM takes; empty for the last before the head.
    class_name
        The class that the maps are to speak for; empty for the model's positive one.
    level
        Level of the model whose network is explained.
    until
        Masks of a tile go on until its map would correlate by this with one of as many others; None does all.
    masks
        Most masks a tile; None for what the method takes.
    options
        Other numbers that the method can be told, by name.
    fill
        What stands where pixels are taken away, of `explain.methods.Fill`.
    faithfulness
        Whether deletion and insertion curves are computed with every map.
    seed
        Of all that is drawn.

    Raises
    ------
    UsageError
        When a value makes no sense.
    """

    method: str = ""
    layer: str = ""
    class_name: str = ""
    level: int = 0
    until: float | None = None
    masks: int | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    fill: str = "blur"
    faithfulness: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.level < 0:
            raise UsageError(f"--level {self.level}: expected a level of the model, from 0")
        if self.until is not None and not 0 < self.until < 1:
            raise UsageError(f"--until {self.until:g}: expected a correlation above 0 and below 1, such as 0.95")
        if self.masks is not None and not 2 <= self.masks <= MOST_MASKS:
            raise UsageError(f"--masks {self.masks}: expected 2 to {MOST_MASKS}")
        if self.masks is not None and _MASKS in self.options:
            raise UsageError(f"--masks {self.masks} and --set {_MASKS}={self.options[_MASKS]:g} say the same; give one")
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"--seed {self.seed}: expected a whole number from 0, below 2^64")

    @property
    def asked(self) -> dict[str, float]:
        """All that the method is told, by name."""
        return {**self.options, **({} if self.masks is None else {_MASKS: self.masks})}


@dataclass(frozen=True)
class TilesWanted:
    """Which tiles of a slide are to be explained: by one of these.

    Attributes
    ----------
    top
        So many of the highest scores of the level in the result.
    positive
        Whether those whose score reached the threshold.
    points
        l0_x, l0_y of level-0 pixels: the tiles that they lie in.
    file
        A table of tiles, or of several slides a folder with a table each, named like the slide.
    """

    top: int = 0
    positive: bool = False
    points: tuple[tuple[int, int], ...] = ()
    file: Path | None = None

    @property
    def needs_result(self) -> bool:
        """Whether only a result can say which they are."""
        return bool(self.top) or self.positive

    def in_words(self) -> str:
        """As on the command line."""
        if self.top:
            return f"top:{self.top}"
        if self.positive:
            return "positive"
        return str(self.file) if self.file is not None else " ".join(f"l0:{x},{y}" for x, y in self.points)


def parse_tiles(words: Sequence[str]) -> TilesWanted:
    """Which tiles are meant by ``top:N``, ``positive``, a file, or any number of ``l0:X,Y``.

    Raises
    ------
    UsageError
        When a word is malformed, or several say different things.
    """
    points: list[tuple[int, int]] = []
    others: list[TilesWanted] = []
    for word in words:
        if (point := _POINT.fullmatch(word)) is not None:
            points.append((int(point[1]), int(point[2])))
        elif (top := _TOP.fullmatch(word)) is not None and int(top[1]):
            others.append(TilesWanted(top=int(top[1])))
        elif word == "positive":
            others.append(TilesWanted(positive=True))
        elif not word or word.startswith(("top:", "l0:")):
            raise UsageError(
                f"--tiles {word}: expected top:N, positive, l0:X,Y or a file, such as top:20 or l0:4096,512"
            )
        else:
            others.append(TilesWanted(file=Path(word)))
    if len(others) + bool(points) != 1:
        found = "several of them" if others else "none"
        raise UsageError(
            f"--tiles: expected top:N, positive, a file, or one or more l0:X,Y, and found {found}; give one kind"
        )
    return others[0] if others else TilesWanted(points=tuple(points))
