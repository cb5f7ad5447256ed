"""Which slides are tumour slides, by a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from pyramidai_mpi.base.csv_reading import read_csv
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.slide_names import bare_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.base.csv_reading import Row

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
        for name in (slide.casefold(), bare_name(slide)):
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
    endings, so that CAMELYON16's ``normal_001.tif.npy`` and a slide ``normal_001.tif`` are one. See `read_csv`.

    Raises
    ------
    InputError
        When it cannot be read, or a row says neither.
    """
    rows = read_csv(path, _has_labels).rows
    tumor: dict[str, bool | None] = {}
    for position, (number, row) in enumerate(rows):
        word = _word(row)
        if word not in _WORDS:
            if position == 0:
                continue
            raise InputError(
                f"{path}: line {number}: expected a slide name and tumor or normal, got {','.join(row)!r:.200}"
            )
        said = row[0].strip().casefold()
        for name in {said, bare_name(said)}:
            tumor[name] = _WORDS[word] if tumor.get(name, _WORDS[word]) == _WORDS[word] else None
    if not tumor:
        raise InputError(f"{path}: names no slide; expected rows such as slide_001,tumor")
    return SlideLabels(path, tumor)


def _has_labels(rows: Sequence[Row]) -> bool:
    words = [_word(row.cells) in _WORDS for row in rows]
    return any(words) and all(words[1:])


def _word(cells: Sequence[str]) -> str:
    return cells[1].strip().casefold() if len(cells) > 1 else ""
