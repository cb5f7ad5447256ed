"""What all ranks must have been told, and must see, alike before they work together."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import suppress
from itertools import zip_longest
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, PyramidError, StorageError
from pyramidai_mpi.base.shortened import shortened
from pyramidai_mpi.process.host import host_name, machine_id
from pyramidai_mpi.ranks.collectives import agree, ranks_alike, share_bytes, usual_rank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mpi4py import MPI

_PATIENCE_S = 5.0


def agree_alike(comm: MPI.Intracomm, facts: Mapping[str, Sequence[str]], error: PyramidError | None = None) -> None:
    """Raise on all ranks when any rank holds other facts than most, or has an error. Collective.

    The first thing that ranks do together: it neither asks that they hold facts of the same names nor that what led
    here went well. What differs is told first, as it explains errors of some.

    Parameters
    ----------
    facts
        Words for each, and its values.
    error
        What keeps this rank from going on.

    Raises
    ------
    InputError
        Names the lowest rank that differs, its host, and the first fact that does.
    PyramidError
        As `agree`.
    """
    own = json.dumps(facts).encode()
    usual, is_usual = usual_rank(comm, own)
    if usual is not None:
        host = share_bytes(comm, host_name().encode() if comm.rank == usual else None, root=usual).decode()
        others = json.loads(share_bytes(comm, own if comm.rank == usual else None, root=usual))
        agree(comm, None if is_usual else _other_start(json.loads(own), others, f"rank {usual} on host {host}"))
    agree(comm, error)


def _other_start(own: Mapping[str, Sequence[str]], usual: Mapping[str, Sequence[str]], who: str) -> InputError:
    """Say in what this rank differs from `who`, which has what most have."""
    name = next(name for name in (*own, *usual) if own.get(name) != usual.get(name))
    pairs = zip_longest(own.get(name, ()), usual.get(name, ()), fillvalue="nothing")
    here, there = next(pair for pair in pairs if pair[0] != pair[1])
    return InputError(
        f"not all ranks were started alike: {name}: {shortened(here)} here, and {shortened(there)} with {who}; give "
        "all ranks the same command, program, libraries and files"
    )


def agree_on_folder(comm: MPI.Intracomm, folder: Path, otherwise: str = "") -> None:
    """Raise on all ranks when not all see the same folder under a name. Collective.

    Device and inode tell on one machine. Several may number a shared folder's in different ways, so there rank 0 puts
    a file of a name that nobody has looked for before into it, and the others look.

    Parameters
    ----------
    otherwise
        What else the user can do, for the message.

    Raises
    ------
    StorageError
        Names a rank and host that see another folder, or none.
    """
    try:
        found = folder.stat()
        seen = machine_id() + f"{found.st_dev} {found.st_ino}".encode()
    except OSError:
        seen = b""
    if len(ranks_alike(comm, seen)) == comm.size:
        return  # where none has it, whoever is to write there says so
    hint = f", or {otherwise}" if otherwise else ""
    missing = StorageError(
        f"{folder}: no such folder here, though other ranks see it; make it there or name another{hint}"
    )
    # a folder that was just made may be late here
    agree(comm, None if seen or _appears(folder) else missing)
    mark = folder / f".pyramidai-{secrets.token_hex(8)}.part"
    told = ""
    if comm.rank == 0:
        with suppress(OSError):  # then nothing else can be written there, and whoever tries says so
            mark.touch()
            told = mark.name
    shared = share_bytes(comm, f"{told} {host_name()}".encode() if comm.rank == 0 else None)
    name, _, first_host = shared.decode().partition(" ")
    try:
        another = StorageError(
            f"{folder}: is another folder here than with rank 0 on host {first_host}; results need one that all see"
            f"{hint}"
        )
        agree(comm, None if not name or _appears(folder / name) else another)
    finally:
        if told:
            mark.unlink(missing_ok=True)


def _appears(path: Path) -> bool:
    """Whether a file is seen within the time that network file systems may take to tell of it."""
    end = time.monotonic() + _PATIENCE_S
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(_PATIENCE_S / 20)
    return True
