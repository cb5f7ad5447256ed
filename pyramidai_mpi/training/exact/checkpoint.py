"""The state of a training in one file: whole or not there, and of this training or refused."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyramidai_mpi.base.errors import InputError, StorageError, failed_read
from pyramidai_mpi.ranks.collectives import allgather, on_all, share_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mpi4py import MPI

_LATEST = 1 << 62
"""No epoch or step: ranks tell each other in int64 how far they are."""


class Checkpoint:
    """A file that holds a training's last saved state.

    Parameters
    ----------
    path
        The file.
    facts
        What a training that goes on from it must have in common with the one that wrote it, by the names of the
        options.
    check
        Called before each saving; raises where the folder has become another training's, see `OutputLock.check`.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], check: Callable[[], None] = lambda: None) -> None:
        self.path, self.facts = path, dict(facts)
        self._check = check

    def save(self, state: Mapping[str, Any], moment: tuple[int, int]) -> None:
        """Write the state; a kill at any time leaves the old one or the new one.

        Parameters
        ----------
        state
            Numbers, texts, lists, dictionaries and tensors.
        moment
            Epoch and step: a later state has a larger one.

        Raises
        ------
        OutputExistsError
            The folder is no longer this training's.
        StorageError
            It cannot be written.
        """
        self._check()
        partial = self.path.with_name(f"partial-{self.path.name}")
        try:
            with partial.open("wb") as file:
                torch.save({"facts": self.facts, "moment": list(moment), "state": dict(state)}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise StorageError(f"{self.path}: cannot be written: {' '.join(str(error).split())[:200]}") from error

    def load(self, comm: MPI.Intracomm | None = None) -> dict[str, Any] | None:
        """The latest state that any rank sees, the same on all; None where there is none. Collective.

        Raises
        ------
        InputError
            The file is no state, or of another training; names the fact that differs.
        """
        if comm is None or comm.size == 1:
            content, _ = self._own()
            return None if content is None else _loaded(content)["state"]
        content, moment = on_all(comm, self._own)
        moments = allgather(comm, np.array(moment))
        latest = max(range(comm.size), key=lambda rank: tuple(moments[rank]))
        if moments[latest][0] < 0:
            return None
        # hosts need not share a file system: only rank 0 writes, and who is rank 0 may change
        return dict(_loaded(share_bytes(comm, content if comm.rank == latest else None, root=latest))["state"])

    def _own(self) -> tuple[bytes | None, tuple[int, int]]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None, (-1, -1)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        try:
            found = _loaded(content)
            facts, (epoch, step) = found["facts"], found["moment"]
            moment = int(epoch), int(step)
            if not isinstance(found["state"], dict) or not all(0 <= number < _LATEST for number in moment):
                raise ValueError("no such state, or moment, can be")
            others = [name for name in (*self.facts, *facts) if facts.get(name) != self.facts.get(name)]
        except Exception as error:  # torch.load raises whatever the unpickler meets
            raise failed_read(self.path, error) or no_state(self.path) from error
        if others:
            said, own = facts.get(others[0]), self.facts.get(others[0])
            raise InputError(
                f"{self.path}: is of a training with another {others[0]!s:.80} ({said!s:.200}, here {own!s:.200}); "
                "give the same, or --overwrite to begin anew"
            )
        return content, moment


def no_state(path: Path) -> InputError:
    """What is said of a file that no training can go on from."""
    return InputError(f"{path}: not a state that training can go on from; delete it, or give --overwrite")


def _loaded(content: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return loaded


def digest_of(*states: Mapping[str, Any]) -> bytes:
    """SHA-256 of the tensors and numbers of state dictionaries, nested ones too, in order."""
    found = hashlib.sha256()

    def take(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.update(f"{value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for name, inner in value.items():
                found.update(str(name).encode())
                take(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                take(inner)
        else:
            found.update(repr(value).encode())

    for state in states:
        take(dict(state))
    return found.digest()
