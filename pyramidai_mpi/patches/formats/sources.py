"""Files of patches that are about to be exported: what all formats ask of them, and their patches group by group."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import ORIGINS, PLACES, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.patches.formats.table import PatchFormat
    from pyramidai_mpi.store.patches.record import PatchHeader

_GROUP_BYTES = 128 << 20
"""Decoded patches that are in memory at a time, where a format has no groups of its own."""
_LONGEST_NAME = 150
"""Bytes that leave room for coordinates, endings, and what a temporary file adds."""


@dataclass(frozen=True)
class Source:
    """A file of patches, closed.

    Attributes
    ----------
    path, header
        The file, and what it says.
    stem
        Its slide's name without the ending; of pictures of no known slide, what they are called.
    """

    path: Path
    header: PatchHeader
    stem: str

    @property
    def is_labelled(self) -> bool:
        """Whether its patches have labels, if only some of them."""
        return bool(self.header.settings.label_names)

    @property
    def has_slide(self) -> bool:
        """Whether its patches lie on a slide."""
        return self.header.settings.places != PLACES[2]

    def groups(self, *, own: bool = False) -> Iterator[tuple[npt.NDArray[np.void], RgbArray]]:
        """Rows of the table and pixels, uint8 (n, size, size, 3), a group at a time; the pixels' place is used again.

        Parameters
        ----------
        own
            Give the file's own groups, however large they are.
        """
        settings = self.header.settings
        fitting = max(1, _GROUP_BYTES // (3 * settings.size**2))
        group = settings.group if own else min(settings.group, fitting)
        n = min(group, self.header.n_patches)
        with open_patches(self.path, group=group) as patches:
            room = np.empty((n, settings.size, settings.size, 3), np.uint8)
            for number in range(patches.n_groups):
                rows = patches.table[number * group : (number + 1) * group]
                yield rows, patches.group(number, out=room)

    def table(self) -> npt.NDArray[np.void]:
        """`PATCH_DTYPE` records of all patches."""
        with PatchFile(self.path) as file:
            return file.patches


def read_sources(files: Sequence[Path]) -> list[Source]:
    """Files of patches in the order given, checked for what any export needs.

    Raises
    ------
    InputError
        When one cannot be read, two are of slides of one name, or a name is none that a file could have.
    """
    found: dict[str, Source] = {}
    for path in files:
        with PatchFile(path) as file:
            header = file.header
        # pictures without a slide are called like their patient or folder, whose name may have dots
        is_slide = header.settings.places != PLACES[2]
        stem = plain_name(PurePath(header.slide.name).stem if is_slide else header.slide.name, path, "its slide's name")
        if stem in found:
            raise InputError(
                f"{path}: is of a slide called {stem}, as {found[stem].path} is; export them into two folders"
            )
        found[stem] = Source(path, header, stem)
    return list(found.values())


def check_needs(asked: PatchFormat, sources: Sequence[Source]) -> None:
    """See that files have what a format is made of.

    Raises
    ------
    InputError
        When one has not.
    """
    for source in sources:
        settings, origin = source.header.settings, source.header.slide.origin
        if asked.pixels and settings.pixels == "none":
            raise InputError(
                f"{source.path}: keeps coordinates alone (--pixels none), and --{asked.name} writes pixels; extract "
                "its patches with --pixels stored"
            )
        if asked.places and not source.has_slide:
            raise InputError(
                f"{source.path}: holds pictures of no known slide, and --{asked.name} says where patches lie; use "
                "--webdataset or --images"
            )
        if asked.labels and not source.is_labelled:
            raise InputError(f"{source.path}: holds no labels, and --{asked.name} is made of them")
        missing = [name for name in ORIGINS if name not in origin]
        if asked.origin and missing:
            raise InputError(
                f"{source.path}: does not say the {' and '.join(missing)} of slide {source.stem}, and --{asked.name} "
                "is made of them"
            )


def common_labels(sources: Sequence[Source]) -> tuple[str, ...]:
    """Names of the labels of files that have some, which have to be the same; empty where none has.

    Raises
    ------
    InputError
        When they differ: a number would mean two things.
    """
    labelled = [source for source in sources if source.is_labelled]
    for source in labelled[1:]:
        names, first = source.header.settings.label_names, labelled[0].header.settings.label_names
        if names != first:
            raise InputError(
                f"{source.path}: has the labels {', '.join(names)}, but {labelled[0].path} has {', '.join(first)}; "
                "export them into two folders"
            )
    return labelled[0].header.settings.label_names if labelled else ()


def plain_name(name: str, path: Path, what: str) -> str:
    """A name that is one part of a path.

    Raises
    ------
    InputError
        When it is none, or too long.
    """
    if not name or name in {".", ".."} or re.search(r"[/\\\x00-\x1f]", name) or len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"{path}: {what}, {name!r:.60}, cannot be that of a file or folder")
    return name


def repeats(rows: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """How many earlier patches have the same corner, int64 (N,): 0 everywhere on a grid."""
    corners = np.stack([rows["l0_x"], rows["l0_y"]], axis=1)
    _, first, place = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    if len(first) == len(rows):
        return np.zeros(len(rows), np.int64)
    order = np.argsort(place, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(place))[:-1]])
    counts = np.empty(len(rows), np.int64)
    counts[order] = np.arange(len(rows)) - starts[place[order]]
    return counts


def patch_name(source: Source, number: int, row: npt.NDArray[np.void] | np.void, repeat: int) -> str:
    """A name for a patch that no other patch of its file has, of numbers, signs and underscores.

    It says the corner of the window in level-0 pixels, and which one of several of this corner it is; for pictures of
    no slide, their number.
    """
    if not source.has_slide:
        return f"{number:06d}"
    return f"{row['l0_x']}_{row['l0_y']}" + (f"_{repeat}" if repeat else "")


@dataclass
class Exported:
    """What became of the patches of an export."""

    slides: int = 0
    written: int = 0
    unknown: int = 0
    others: int = 0

    def line(self, title: str) -> str:
        """In words."""
        patches = "1 patch" if self.written == 1 else f"{self.written} patches"
        parts = [f"{title}: {patches} of {counted(self.slides, 'slide')}"]
        if self.unknown:
            parts.append(f"{self.unknown} of unknown label are left out")
        if self.others:
            parts.append(f"{self.others} of labels that it has no place for are left out")
        return "; ".join(parts)


def known(rows: npt.NDArray[np.void], labels: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Which patches have a label, bool (N,): all of them where nothing is labelled."""
    return np.asarray(rows["label"] != UNKNOWN) if labels else np.ones(len(rows), bool)


def named_patches(
    source: Source, labels: tuple[str, ...], said: Exported
) -> Iterator[tuple[int, np.void, RgbArray, str]]:
    """The patches that have a label, or all where nothing is labelled: number, record, pixels, and a name of its own.

    Those that are given, and those left out, are counted in `said`. The pixels' place is used again.
    """
    again = repeats(source.table())
    first = 0
    for rows, pixels in source.groups():
        chosen = known(rows, labels)
        said.unknown += int((~chosen).sum())
        for place in np.flatnonzero(chosen).tolist():
            number, row = first + place, rows[place]
            yield number, row, pixels[place], patch_name(source, number, row, again[number])
            said.written += 1
        first += len(rows)
