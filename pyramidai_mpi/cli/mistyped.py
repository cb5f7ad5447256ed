"""Words that are neither a file nor anything else: they stop a run before it writes, with what was meant."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, PyramidError, UsageError
from pyramidai_mpi.base.names import nearest_name
from pyramidai_mpi.base.patch_order import is_patch_file

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from mpi4py import MPI

_RESULTS = (".h5", ".hdf5")
_ENDINGS_ON_A_NAME, _FOLDERS_ON_A_NAME, _SIGNS_OF_A_PATTERN = ".", "/", "*?["


def mistyped(words: Sequence[Path | str], commands: Collection[str]) -> PyramidError | None:
    """What is wrong with the first word that cannot be a slide; None when all may be.

    A word with an ending or a folder names a file: whoever opens it says that it is missing, and of several slides the
    others go on. One without either, of which there is no file or folder, is a mistyped command or option.

    Parameters
    ----------
    words
        What stands in the place of slides.
    commands
        The commands that there are.
    """
    for word in map(str, words):
        # os.path says no where pathlib raises: a name that is too long
        if os.path.lexists(word):
            if word.lower().endswith(_RESULTS) and not is_patch_file(word) and os.path.isfile(word):  # noqa: PTH113
                return InputError(
                    f"{word}: is an HDF5 file, as results are, and no slide; "
                    f"try: pyramidai info {word}, or pyramidai export {word} ..."
                )
        elif not _names_a_file(word):
            return UsageError(f"{word}: {_what_it_is(word, commands)}")
    return None


def mistyped_choice(option: str, word: str, choices: Sequence[str]) -> UsageError | None:
    """What is wrong with the value of an option that takes a file or one of a few words; None when it may be either."""
    if word in choices or _names_a_file(word) or os.path.lexists(word):
        return None
    near = nearest_name(word, choices)
    meant = f"; did you mean {near!r}?" if near else ""
    return UsageError(f"{option} {word}: is neither {', '.join(choices)} nor a file or folder{meant}")


def agree_on_words(comm: MPI.Intracomm, error: PyramidError | None, *, only_rank0: bool = False) -> None:
    """Raise on all ranks what any has found of these; what only some of them miss was not mistyped. Collective.

    Parameters
    ----------
    only_rank0
        Whether rank 0's alone counts, whose files are sent to the others.

    Raises
    ------
    UsageError, InputError
        As found; and where some ranks see a file or folder that others do not: names the lowest of these.
    """
    import numpy as np

    from pyramidai_mpi.ranks.collectives import agree, allgather

    if only_rank0:
        agree(comm, error if comm.rank == 0 else None, all_tried=False)
        return
    n_missing = int(allgather(comm, np.array([int(isinstance(error, UsageError))])).sum())
    if isinstance(error, UsageError) and n_missing < comm.size:
        error = InputError(f"{str(error).partition(':')[0]}: no such file or folder here, though other ranks see it")
    agree(comm, error)


def _names_a_file(word: str) -> bool:
    return bool(set(word) & set(_ENDINGS_ON_A_NAME + _FOLDERS_ON_A_NAME + _SIGNS_OF_A_PATTERN))


def _what_it_is(word: str, commands: Collection[str]) -> str:
    if word in commands:
        return f"is a command and goes first: pyramidai {word} ..."
    near = nearest_name(word, commands)
    meant = f"; did you mean {near!r}?" if near else " (see pyramidai --help)"
    return f"is neither a command nor a file or folder{meant}"
