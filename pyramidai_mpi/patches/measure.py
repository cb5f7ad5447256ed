"""How many patches a group should have on a file system: what reading takes, and what follows from it.

Li, Mikailov and Chen (2023) chose the size of their groups with such a tool, which they did not publish. Three ways of
reading are timed for each size N: a whole group of N patches; N patches one by one, drawn from the whole file; and as
many, with the file opened anew for each. Files and clock are given, so that what follows can be held against clocks
that are known.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.base.types import RgbArray

TOLERANCE = 0.1
"""A size within this share of the fastest one is as good as it, if it takes less memory."""


class Way(StrEnum):
    """How patches are read."""

    GROUP = "whole group"
    SINGLE = "single patches"
    ANEW = "opened anew"
    OPENING = "opening"
    """Opening the file alone."""


class Patches(Protocol):
    """An open file of patches; see `database.OpenPatches`."""

    def __len__(self) -> int: ...

    def group(self, number: int, out: RgbArray | None = None) -> RgbArray:
        """Read a whole group."""

    def patch(self, number: int) -> RgbArray:
        """Read one patch."""

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True)
class Measured:
    """A file that is measured.

    Attributes
    ----------
    path
        Where it is.
    n_patches, size
        Its patches, and the side of each in pixels.
    """

    path: Path
    n_patches: int
    size: int

    @property
    def patch_bytes(self) -> int:
        """Bytes of a decoded patch."""
        return 3 * self.size**2


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes
    ----------
    groups
        Patches in a group, each size above 0.
    repeats
        How often each is timed, at other places of the files.
    seed
        Decides the places.
    most_single, most_anew
        Most patches that are read one by one, and with the file opened anew for each: both take about as long for each
        patch however many there are.
    """

    groups: tuple[int, ...]
    repeats: int = 3
    seed: int = 0
    most_single: int = 400
    most_anew: int = 50


@dataclass(frozen=True)
class Reading:
    """One timed reading.

    Attributes
    ----------
    state
        What the system has of the file when it begins: ``warm`` or ``cold``.
    way, group, repeat
        How, the size of groups, the number of the repeat.
    file
        Which file, by its place in the list.
    n
        Patches that were read; of `Way.OPENING` 1.
    seconds
        Of all of them.
    """

    state: str
    way: Way
    group: int
    repeat: int
    file: int
    n: int
    seconds: float

    @property
    def ms(self) -> float:
        """Milliseconds a patch."""
        return 1000 * self.seconds / self.n


def usable_groups(files: Sequence[Measured], groups: Iterable[int], most_bytes: int | None) -> tuple[int, ...]:
    """Sizes, in order, for which some file has a whole group that fits into memory.

    Raises
    ------
    InputError
        When there is none, or the files' patches differ in size.
    """
    sizes = {file.size for file in files}
    if len(sizes) != 1:
        named = " and ".join(f"{size} px" for size in sorted(sizes))
        raise InputError(f"{files[0].path.parent}: holds patches of {named}; measure files of one size together")
    most = max(file.n_patches for file in files)
    patch_bytes = files[0].patch_bytes
    found = sorted({n for n in groups if n <= most and (most_bytes is None or n * patch_bytes <= most_bytes)})
    if not found:
        room = (
            "" if most_bytes is None else f", and {most_bytes / 1e6:.0f} MB of memory hold {most_bytes // patch_bytes}"
        )
        raise InputError(f"{files[0].path}: there are {most} patches in a file{room}; give smaller --groups")
    return tuple(found)


def measure(
    files: Sequence[Measured],
    plan: Plan,
    open_file: Callable[[Path, int], Patches],
    clock: Callable[[], float],
    states: Mapping[str, Callable[[Path], None]],
) -> Iterator[Reading]:
    """Time all ways of reading, for all sizes, one state after the other.

    Parameters
    ----------
    files, plan
        What is read; `plan.groups` as `usable_groups` gives them.
    open_file
        Opens a file in groups of so many patches.
    clock
        Gives seconds.
    states
        For each state what is done to a file before each reading, to bring it there.

    Raises
    ------
    InputError
        When a file cannot be read.
    """
    room = np.ones((max(plan.groups), files[0].size, files[0].size, 3), np.uint8)  # ones: there before it is timed
    for state, prepare in states.items():
        for repeat in range(plan.repeats):
            for group in plan.groups:
                rng = np.random.default_rng([plan.seed, repeat, group])  # the same places in every state
                number = int(rng.choice([number for number, file in enumerate(files) if file.n_patches >= group]))
                file = files[number]
                where = int(rng.integers(file.n_patches // group))
                single = rng.choice(file.n_patches, min(group, plan.most_single), replace=False).tolist()
                reader = _Reader(file.path, group, where, single, single[: plan.most_anew], room, open_file)
                for way in Way:
                    n, seconds = reader.time(way, prepare, clock)
                    yield Reading(state, way, group, repeat, number, n, seconds)


@dataclass(frozen=True)
class _Reader:
    """Reads places of one file in all ways: a whole group, some patches one by one, a few with the file opened anew."""

    path: Path
    group: int
    where: int
    single: list[int]
    few: list[int]
    room: RgbArray
    open_file: Callable[[Path, int], Patches]

    def time(self, way: Way, prepare: Callable[[Path], None], clock: Callable[[], float]) -> tuple[int, float]:
        """Number of patches, and seconds of reading them; nothing of them has been decoded before."""
        with closing(self._opened()) as patches:
            prepare(self.path)
            started = clock()
            n = self._read(way, patches)
            return n, clock() - started

    def _read(self, way: Way, patches: Patches) -> int:
        if way is Way.OPENING:
            self._opened().close()
            return 1
        if way is Way.GROUP:
            patches.group(self.where, self.room)
            return self.group
        if way is Way.SINGLE:
            for number in self.single:
                patches.patch(number)
            return len(self.single)
        for number in self.few:
            with closing(self._opened()) as fresh:
                fresh.patch(number)
        return len(self.few)

    def _opened(self) -> Patches:
        return self.open_file(self.path, self.group)


@dataclass(frozen=True)
class Spread:
    """Milliseconds a patch over the repeats: the middle one, the least, the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, readings: Iterable[Reading]) -> Spread:
        """Of readings of one way."""
        ms = [reading.ms for reading in readings]
        return cls(median(ms), min(ms), max(ms))


def spreads(readings: Iterable[Reading]) -> dict[tuple[str, int, Way], Spread]:
    """By state, size of groups and way, in the order in which they were measured."""
    found: dict[tuple[str, int, Way], list[Reading]] = {}
    for reading in readings:
        found.setdefault((reading.state, reading.group, reading.way), []).append(reading)
    return {key: Spread.of(some) for key, some in found.items()}


@dataclass(frozen=True)
class Recommendation:
    """A size of groups, and why.

    Attributes
    ----------
    group
        Patches in a group.
    excess
        By what share its time a patch is above the fastest size's: in the worst of the states measured.
    group_bytes
        Memory that a decoded group takes.
    single, anew
        How many times as long patches take that are read one by one, or with the file opened for each: in the state
        where this is most.
    fastest, is_largest
        Whether it is the fastest size in all states; the largest that was measured.
    states
        What was measured.
    """

    group: int
    excess: float
    group_bytes: int
    single: float
    anew: float
    fastest: bool
    is_largest: bool
    states: tuple[str, ...]

    def __str__(self) -> str:
        states = " and ".join(self.states)
        above = f"{self.excess:.1%} above it"
        if self.fastest:
            why = f"no size measured takes less time a patch, {states}"
            why += "; larger ones may, but were not measured" if self.is_largest else ""
        elif self.excess <= TOLERANCE:
            why = f"the smallest size within {TOLERANCE:.0%} of the least time a patch, {states} ({above})"
        else:
            why = f"no size is within {TOLERANCE:.0%} of the least time a patch, {states}; this comes nearest ({above})"
        return (
            f"take groups of {self.group} (--group {self.group}): {why}. Decoded, one takes "
            f"{self.group_bytes / 1e6:.1f} MB; patches one by one take {self.single:.1f} times as long, with the file "
            f"opened for each {self.anew:.1f} times"
        )


def recommend(readings: Sequence[Reading], patch_bytes: int) -> Recommendation:
    """The smallest size whose median time a patch is within `TOLERANCE` of the fastest size's, in every state.

    Where no size is, the one that is furthest from the fastest by the least.
    """
    found = spreads(readings)
    states = tuple(dict.fromkeys(reading.state for reading in readings))
    sizes = sorted({reading.group for reading in readings})
    excess = dict.fromkeys(sizes, 0.0)
    for state in states:
        best = min(found[state, size, Way.GROUP].median for size in sizes)
        for size in sizes:
            excess[size] = max(excess[size], found[state, size, Way.GROUP].median / best - 1)
    good = [size for size in sizes if excess[size] <= TOLERANCE]
    chosen = good[0] if good else min(sizes, key=lambda size: excess[size])

    def times(way: Way) -> float:
        return max(found[state, chosen, way].median / found[state, chosen, Way.GROUP].median for state in states)

    return Recommendation(
        group=chosen,
        excess=excess[chosen],
        group_bytes=chosen * patch_bytes,
        single=times(Way.SINGLE),
        anew=times(Way.ANEW),
        fastest=excess[chosen] == 0,
        is_largest=chosen == sizes[-1],
        states=states,
    )


def table_lines(readings: Sequence[Reading], patch_bytes: int) -> Iterator[str]:
    """The figures as a table in columns: milliseconds a patch, median and range of the repeats."""
    found = spreads(readings)
    rows = [
        [
            "state",
            "patches a group",
            "MB",
            "whole group",
            "single patches",
            "opened anew",
            "single / group",
            "anew / group",
        ]
    ]
    for state, size in dict.fromkeys((reading.state, reading.group) for reading in readings):
        group, single, anew = (found[state, size, way] for way in (Way.GROUP, Way.SINGLE, Way.ANEW))
        rows.append(
            [
                state,
                str(size),
                f"{size * patch_bytes / 1e6:.0f}",
                *(f"{one.median:.3f} ({one.least:.3f}-{one.most:.3f})" for one in (group, single, anew)),
                *(f"{one.median / group.median:.1f}" for one in (single, anew)),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def opening_line(readings: Iterable[Reading]) -> str:
    """What opening a file takes by itself."""
    found: dict[str, list[float]] = {}
    for reading in readings:
        if reading.way is Way.OPENING:
            found.setdefault(reading.state, []).append(reading.ms)
    return "opening a file alone: " + ", ".join(f"{state} {median(ms):.2f} ms" for state, ms in found.items())


def csv_text(readings: Iterable[Reading], files: Sequence[Measured]) -> str:
    """One row a reading; times in seconds."""
    rows: list[tuple[object, ...]] = [("file", "state", "way", "group", "repeat", "patches", "seconds", "ms_per_patch")]
    for one in readings:
        name, figures = files[one.file].path.name, (f"{one.seconds:.9f}", f"{one.ms:.6f}")
        rows.append((name, one.state, one.way.value, one.group, one.repeat, one.n, *figures))
    return "".join(csv_row(row) for row in rows)
