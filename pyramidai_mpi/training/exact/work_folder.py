"""The folder that keeps what a training goes on from: made, gone on with, begun anew, or left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.ranks.collectives import allgather
from pyramidai_mpi.store.files.placing import discard, make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pyramidai_mpi.ranks.unit_pool import UnitPool

_STATE = "state.pt"
_BESIDE = ("log.csv", "log-times.csv", "curves.html")
"""Files of a training without a name, beside its state; those of a named one begin with the name."""


def state_path(folder: Path, name: str = "") -> Path:
    """File of the state of a training; of several in one folder each has a name."""
    return folder / (f"{name}.{_STATE}" if name else _STATE)


def begin_work(
    pool: UnitPool, states: Sequence[Path], *, resume: bool, overwrite: bool, say: Callable[[str], None]
) -> None:
    """Make the folders of work; see that states that are there are meant. Collective.

    Parameters
    ----------
    pool
        The ranks.
    states
        Files of the states that the training may leave, see `state_path`.
    resume
        Whether to go on from them.
    overwrite
        Whether they, and what lies beside them, are to go first.
    say
        Told on rank 0, in a line, when there is nothing to go on from.

    Raises
    ------
    OutputExistsError
        There is a state, and nobody said what to do with it.
    StorageError
        A folder cannot be made.
    """

    def prepare() -> None:
        there = next((state for state in states if state.exists()), None)
        if there is not None and not (resume or overwrite):
            raise OutputExistsError(
                f"{there}: is the state of a training; --resume goes on from there, --overwrite begins anew, --work "
                "names another folder"
            )
        for state in states:
            make_folder(state.parent, "--work")
            for path in _files_of(state) if overwrite else ():
                discard(path)

    if resume:
        # hosts need not share a disk: any rank's state is gone on from, see `Checkpoint.load`
        own = np.array([any(state.exists() for state in states)])
        is_there = bool((own if pool.comm is None else allgather(pool.comm, own)).any())
        if not is_there and pool.rank == 0:
            say(f"{states[0].parent}: holds no state to go on from; --resume begins anew")
    pool.on_rank0(prepare)


def _files_of(state: Path) -> Iterable[Path]:
    name = state.name.removesuffix(_STATE)
    return state.parent.glob(f"{name}*") if name else [state, *(state.with_name(other) for other in _BESIDE)]
