"""Files of parts on the disk: which belong together, which are missing, and which slides of several are left."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import ExitCode, InputError, UsageError, input_errors
from pyramidai_mpi.base.part import MOST_PARTS, Part, named_part
from pyramidai_mpi.base.patch_order import ENDING
from pyramidai_mpi.run.merging import Joined, join_results, look_at_part
from pyramidai_mpi.run.merging_patches import join_patches, look_at_patch_part
from pyramidai_mpi.run.parts import missing_numbers, one_of_each
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import PART_FORMAT as PATCHES_FORMAT
from pyramidai_mpi.store.results.reader import format_of, open_result
from pyramidai_mpi.store.results.result import PART_FORMAT
from pyramidai_mpi.store.results.tables import read_header

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.run.parts import FoundPart


@dataclass(frozen=True)
class PartGroup:
    """Files that are parts of one file by their names, or because the caller says so.

    Attributes
    ----------
    output
        The whole file to be.
    files
        The parts.
    of
        How many there should be; None for as many as they say.
    """

    output: Path
    files: tuple[Path, ...]
    of: int | None = None

    def join(self, *, overwrite: bool, accept_mixed: bool, model: Path | None = None) -> Joined:
        """Join them; `model` as of `join_results`.

        Raises
        ------
        InputError
            There is none, one is missing, damaged or of another run.
        OutputExistsError, StorageError
            The whole file cannot be placed.
        """
        if self.of is not None and len(self.files) < self.of and is_whole(self.output):
            return Joined(ExitCode.OK, (f"{self.output}: is there already, complete; its parts are not",))
        found = [_look(path) for path in self.files]
        if not found:
            raise InputError(f"{self.output}: none of its parts is there")
        if self.of not in {None, found[0].part.of}:
            raise InputError(f"{found[0].path}: is {found[0].part.words}, not of {self.of}")
        if format_of(found[0].path) == PATCHES_FORMAT:
            return join_patches(found, self.output, overwrite=overwrite, accept_mixed=accept_mixed)
        return join_results(found, self.output, overwrite=overwrite, accept_mixed=accept_mixed, model=model)

    def left(self) -> tuple[list[int], int, list[str]]:
        """Numbers of the parts that are missing or damaged, of how many there are, and lines that say why."""
        if self.of is not None and is_whole(self.output):
            return [], self.of, []
        sound, lines = [], []
        for path in self.files:
            try:
                sound.append(_look(path))
            except InputError as error:
                lines.append(f"{error} (remove it before the part is done again)")
        named = [found[1].of for path in self.files if (found := named_part(path)) is not None]
        of = self.of or (sound[0].part.of if sound else max(named, default=0))
        if not of:
            raise UsageError(f"{self.output}: nothing says how many parts it has; give --parts N")
        numbers = missing_numbers(one_of_each(sound)) if sound else list(range(1, of + 1))
        return numbers, of, lines


def _look(path: Path) -> FoundPart:
    """What a part says of itself.

    Raises
    ------
    InputError
        It is damaged, or no part.
    """
    looks = {PART_FORMAT: look_at_part, PATCHES_FORMAT: look_at_patch_part}
    look = looks.get(format_of(path))
    if look is None:
        raise InputError(f"{path}: is no part of a result or of patches; leave it out")
    return look(path)


def is_whole(path: Path) -> bool:
    """Whether a whole, sound file with something to read is there."""
    return path.is_file() and why_not_whole(path) == ""


def why_not_whole(path: Path) -> str:
    """Why a file does not count as done, in words; empty where it does."""
    if not path.is_file():
        return "has no result"
    try:
        n, n_failed = _patches_in(path) if path.name.endswith(ENDING) else _tiles_in(path)
    except InputError as error:
        return f"{error} (remove it before it is done again)"
    if 0 < n == n_failed:
        return f"none of its {n} tiles could be read: remove {path} once the slide can be read"
    return ""


def _tiles_in(path: Path) -> tuple[int, int]:
    with open_result(path) as file:
        header = read_header(file)
    return sum(header.n_tiles), header.n_tiles_failed


def _patches_in(path: Path) -> tuple[int, int]:
    with PatchFile(path) as file:
        return file.header.n_patches + file.header.n_failed, file.header.n_failed


def groups_in(words: Sequence[Path], output: Path | None = None) -> list[PartGroup]:
    """Parts that files and folders name, those of one whole file together.

    Parameters
    ----------
    words
        Files of parts, and folders that hold some.
    output
        The whole file of them all; None where their names say it.

    Raises
    ------
    InputError
        A folder holds none, or cannot be read.
    UsageError
        A file's name does not say what it is a part of.
    """
    files: dict[tuple[Path, int], list[Path]] = {}
    for word in words:
        # os.path would do, too: a name that is too long is no folder
        for path in _parts_in(word) if word.is_dir() else [word]:
            named = named_part(path)
            if not os.path.lexists(path):
                raise InputError(f"{path}: no such part, and no folder of parts; check the path")
            if output is None and named is None:
                raise UsageError(f"{path}: its name does not say which file it is a part of; name that with -o")
            key = (output, 0) if output is not None else (named[0], named[1].of) if named else (path, 0)
            if path not in (same := files.setdefault(key, [])):
                same.append(path)
    return [PartGroup(whole, tuple(paths)) for (whole, _), paths in files.items()]


def _parts_in(folder: Path) -> list[Path]:
    with input_errors(folder):
        found = sorted(path for path in folder.iterdir() if named_part(path) and path.suffix == ".h5")
    if not found:
        raise InputError(f"{folder}: holds no parts; looked for *.part-I-of-N.h5")
    return found


def group_of(output: Path, of: int) -> PartGroup:
    """The parts of one file, as far as they are there under their own names.

    Raises
    ------
    UsageError
        Nothing has so many parts.
    """
    check_number(of)
    names = (Part(number, of).name_of(output) for number in range(1, of + 1))
    return PartGroup(output, tuple(path for path in names if path.is_file()), of)


def slides_left(outputs: Sequence[Path], of: int) -> list[tuple[int, Path, str]]:
    """Of several slides' results those that are missing, damaged or unreadable: number of the part, result, why.

    Raises
    ------
    UsageError
        Nothing has so many parts.
    """
    check_number(of)
    found = ((number % of + 1, path, why_not_whole(path)) for number, path in enumerate(outputs))
    return [(part, path, why) for part, path, why in found if why]


def check_number(of: int) -> None:
    """See that something can have so many parts.

    Raises
    ------
    UsageError
        It cannot.
    """
    if not 1 <= of <= MOST_PARTS:
        raise UsageError(f"--parts {of}: expected a number from 1 to {MOST_PARTS}")
