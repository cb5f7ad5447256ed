"""The look-up table of array jobs: which groups of patches are of which slide (Li, Mikailov and Chen 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.part import named_part
from pyramidai_mpi.base.patch_order import ENDING, n_groups, patches_in
from pyramidai_mpi.store.patches.reader import PatchFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def patch_files(folder: Path) -> list[Path]:
    """The files of patches of a folder, by name.

    Raises
    ------
    InputError
        When it holds none, or cannot be read.
    """
    with input_errors(folder):
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    found = [folder / name for name in names if name.endswith(ENDING)]
    if not found:
        parts = filter(None, (named_part(folder / name) for name in names))
        has_parts = any(whole.name.endswith(ENDING) for whole, _ in parts)
        advice = "join its parts first: pyramidai merge" if has_parts else f"looked for *{ENDING}"
        raise InputError(f"{folder}: holds no file of patches; {advice}")
    return found


def files_at(place: Path) -> list[Path]:
    """The files of patches of a folder, by name; of a file, that alone.

    Raises
    ------
    InputError
        When the folder holds none, or cannot be read.
    """
    return patch_files(place) if place.is_dir() else [place]


def counted_groups(files: Iterable[Path], n_bytes: int | None) -> Iterator[tuple[str, int]]:
    """Name of each file's slide, and number of its groups.

    Parameters
    ----------
    n_bytes
        Memory that a group of decoded patches may take; None takes each file's own groups.
    """
    for path in files:
        with PatchFile(path) as file:
            header = file.header
        group = header.settings.group if n_bytes is None else patches_in(n_bytes, header.settings.size)
        yield path.name.removesuffix(ENDING), n_groups(header.n_patches, group)


def lookup_lines(groups: Iterable[tuple[str, int]]) -> Iterator[str]:
    """The table: a head, then a row a slide with its first and last group, numbered on from 1 over all slides.

    A slide without patches has no group, and no row.

    Raises
    ------
    InputError
        When a name holds blanks, which separate the columns.
    """
    yield "Start End Name"
    end = 0
    for name, n in groups:
        if len(name.split()) != 1:
            raise InputError(
                f"{name!r}: holds blanks, which separate the columns of the table; name the slide otherwise"
            )
        if n:
            yield f"{end + 1} {end + n} {name}"
        end += n
