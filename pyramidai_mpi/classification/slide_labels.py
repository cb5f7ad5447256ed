"""Which slides are tumour slides, by a table."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, input_errors

if TYPE_CHECKING:
    from pathlib import Path

_WORDS = {
    **dict.fromkeys(("tumor", "tumour", "positive", "true", "yes", "1"), True),
    **dict.fromkeys(("normal", "negative", "false", "no", "0"), False),
}


@dataclass(frozen=True)
class SlideLabels:
    """A table of slides.

    Attributes
    ----------
    path
        Its file.
    tumor
        By every name that a row answers to: as it stands, and without its endings; None where rows contradict.
    """

    path: Path
    tumor: dict[str, bool | None]

    def is_tumor(self, slide: str) -> bool:
        """Whether a slide, by its file name, is a tumour slide.

        Raises
        ------
        InputError
            When the table does not say, or says both.
        """
        for name in (slide.casefold(), PurePath(slide).stem.casefold()):
            if name in self.tumor:
                label = self.tumor[name]
                if label is None:
                    raise InputError(f"{self.path}: calls slide {slide!r} both tumour and normal; keep one row")
                return label
        raise InputError(
            f"{self.path}: does not name slide {slide!r}; add a row {PurePath(slide).stem},tumor or ,normal"
        )


def read_labels(path: Path) -> SlideLabels:
    """Read a table of slides: name, then tumor or normal (or true/false, 1/0, yes/no); more columns are left alone.

    A first row whose second column is none of these words is a header. Names are compared without case and without
    endings, so that CAMELYON16's ``normal_001.tif.npy`` and a slide ``normal_001.tif`` are one.

    Raises
    ------
    InputError
        When it cannot be read, or a row says neither.
    """
    with input_errors(path), path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
        except csv.Error as error:
            raise InputError(f"{path}: not a readable CSV file: {error}") from error
    tumor: dict[str, bool | None] = {}
    for position, (number, row) in enumerate(rows):
        word = row[1].strip().casefold() if len(row) > 1 else ""
        if word not in _WORDS:
            if position == 0:
                continue
            raise InputError(f"{path}: line {number}: expected a slide name and tumor or normal, got {','.join(row)!r}")
        for name in _names_of(row[0].strip().casefold()):
            tumor[name] = _WORDS[word] if tumor.get(name, _WORDS[word]) == _WORDS[word] else None
    if not tumor:
        raise InputError(f"{path}: names no slide; expected rows such as slide_001,tumor")
    return SlideLabels(path, tumor)


def _names_of(name: str) -> list[str]:
    names = [name]
    while (shorter := PurePath(names[-1]).stem) != names[-1]:
        names.append(shorter)
    return names
