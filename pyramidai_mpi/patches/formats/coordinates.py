"""Coordinates of patches for CLAM and TRIDENT, which read the pixels from the slides themselves."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.export.coordinate_file import (
    clam_attributes,
    nominal_magnification,
    trident_attributes,
    write_coordinate_file,
)
from pyramidai_mpi.patches.formats.sources import Exported
from pyramidai_mpi.store.files.placing import flush_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    import numpy.typing as npt

    from pyramidai_mpi.patches.formats.sources import Source
    from pyramidai_mpi.patches.formats.table import PictureOptions

_COMPOUND = re.compile(r"\.ome\.(tiff?|zarr)$", re.IGNORECASE)
"""Endings of two words that TRIDENT takes off a slide's name."""


def write_clam(folder: Path, sources: Sequence[Source], options: PictureOptions) -> list[str]:
    """Write ``patches/<slide>.h5`` and ``process_list_autogen.csv``, as CLAM's create_patches_fp.py leaves them.

    CLAM reads `patch_size` pixels of a stored level as they are. Where patches are resampled its file says how many
    of them make one, so that it reads the same area. A slide without patches has no file, as with CLAM, and no row.
    """
    (folder / "patches").mkdir()
    said = Exported()
    lines = []
    listed = folder / "process_list_autogen.csv"
    with listed.open("w", encoding="utf-8", newline="") as table:
        table.write("slide_id,process,status\n")
        for source in sources:
            if not source.header.n_patches:
                lines.append(f"  {source.stem}: holds no patch, and CLAM has no file for that")
                continue
            settings, tiles = source.header.settings, source.header.tiles
            size = round(settings.size * settings.ratio)
            width, height = (int(side / settings.stored_downsample) for side in source.header.slide.l0_size)
            attributes = clam_attributes(
                source.stem,
                "patches",
                size,
                settings.stored_level,
                settings.stored_downsample,
                (width, height) if tiles is None else tiles.level_size,
            )
            outside = _write(folder / "patches" / f"{source.stem}.h5", source, attributes)
            table.write(csv_row([source.header.slide.name, 0, "processed"]))
            said.slides += 1
            said.written += source.header.n_patches
            lines += _notes(source, outside, "CLAM")
            if size != settings.size:
                lines.append(
                    f"  {source.stem}: CLAM reads {size} px of stored level {settings.stored_level} for a patch of "
                    f"{settings.size} px; have it resize them (--target_patch_size {settings.size})"
                )
    flush_file(listed)
    return [said.line("CLAM"), *lines]


def write_trident(folder: Path, sources: Sequence[Source], options: PictureOptions) -> list[str]:
    """Write ``patches/<slide>_patches.h5``, as TRIDENT's extract_tissue_coords does into its folder of coordinates."""
    (folder / "patches").mkdir()
    said = Exported()
    lines = []
    for source in sources:
        settings, slide = source.header.settings, source.header.slide
        name = _COMPOUND.sub("", PurePath(slide.name).name) if _COMPOUND.search(slide.name) else source.stem
        attributes = trident_attributes(
            name,
            "patches",
            settings.size,
            round(settings.size * settings.downsample),
            slide.mpp,
            nominal_magnification(slide.mpp) / settings.downsample,
            slide.l0_size,
            settings.size - settings.stride,
        )
        outside = _write(folder / "patches" / f"{name}_patches.h5", source, attributes)
        said.slides += 1
        said.written += source.header.n_patches
        lines += _notes(source, outside, "TRIDENT")
    return [said.line("TRIDENT"), *lines]


def _write(path: Path, source: Source, attributes: Mapping[str, Any]) -> int:
    """Write one file; how many of its patches reach beyond the slide."""
    rows = source.table()

    def corners() -> Iterator[npt.NDArray[np.int64]]:
        yield np.stack([rows["l0_x"], rows["l0_y"]], axis=1)

    write_coordinate_file(path, len(rows), {"coords": (2, np.int64, corners())}, {"coords": attributes})
    flush_file(path)
    return int((rows["inside"] < 1).sum())


def _notes(source: Source, outside: int, reader: str) -> list[str]:
    if not outside:
        return []
    return [f"  {source.stem}: {outside} patches reach beyond the slide, where {reader} reads black and we white"]
