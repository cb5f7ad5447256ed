"""Patches as pictures in a folder a label, which most programs for pictures read, with a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.formats.exporting import MARKER
from pyramidai_mpi.patches.formats.pictures import ENDINGS, encoded
from pyramidai_mpi.patches.formats.pictures_table import UNLABELLED
from pyramidai_mpi.patches.formats.sources import Exported, common_labels, named_patches, plain_name
from pyramidai_mpi.store.files.placing import flush_file
from pyramidai_mpi.store.patches.record import ORIGINS, SHARES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import TextIO

    from pyramidai_mpi.patches.formats.sources import Source
    from pyramidai_mpi.patches.formats.table import PictureOptions

TABLE = "patches.csv"
_COLUMNS = ("file", "label", *ORIGINS, "slide", "l0_x", "l0_y", "size", "spacing_um_px", *SHARES)


def write_images(folder: Path, sources: Sequence[Source], options: PictureOptions) -> list[str]:
    """Write ``<label>/<slide>_<l0_x>_<l0_y>.png`` and ``patches.csv``, which names them and says what is known of each.

    Files without any label go into the folder ``unlabelled``.

    Raises
    ------
    InputError
        When patches cannot be read, the files have different labels, or a label cannot be a folder's name.
    """
    labels = common_labels(sources)
    for source in sources:
        for label in source.header.settings.label_names:
            plain_name(label, source.path, "the label")
            if label.casefold() in {TABLE, MARKER}:
                raise InputError(
                    f"{source.path}: the label {label} is called like a file of the export; name it otherwise"
                )
    said = Exported(len(sources))
    path = folder / TABLE
    with path.open("w", encoding="utf-8", newline="") as table:
        table.write(csv_row(_COLUMNS))
        for source in sources:
            _write_slide(folder, table, source, labels, options.picture, said)
    flush_file(path)
    line = said.line("images")
    return [line] if labels else [line, f"  in a folder {UNLABELLED}, as the files hold no labels"]


def _write_slide(
    folder: Path, table: TextIO, source: Source, labels: tuple[str, ...], picture: str, said: Exported
) -> None:
    slide, settings = source.header.slide, source.header.settings
    for _, row, pixels, patch in named_patches(source, labels, said):
        label = labels[int(row["label"])] if labels else UNLABELLED
        name = f"{source.stem}_{patch}.{ENDINGS[picture]}"
        (folder / label).mkdir(exist_ok=True)
        (folder / label / name).write_bytes(encoded(pixels, picture))
        corner = (int(row["l0_x"]), int(row["l0_y"])) if source.has_slide else (None, None)
        spacing = f"{settings.spacing:.9g}" if source.has_slide else None
        shares = [None if np.isnan(row[share]) else f"{row[share]:.6g}" for share in SHARES]
        origin = [slide.origin.get(each) for each in ORIGINS]
        cells = [f"{label}/{name}", label if labels else None, *origin, slide.name, *corner, settings.size, spacing]
        table.write(csv_row([*cells, *shares]))
