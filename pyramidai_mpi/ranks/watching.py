"""Ranks that watch each other beside MPI: see `process.watch`."""

from __future__ import annotations

import logging
import secrets
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.process.beats import TOKEN_BYTES, Beats, own_addresses, own_socket
from pyramidai_mpi.process.host import host_name, machine_id
from pyramidai_mpi.ranks.collectives import allgather, ranks_alike, share_bytes

if TYPE_CHECKING:
    from mpi4py import MPI

    from pyramidai_mpi.process.watch import Watch

log = logging.getLogger(__name__)

_MOST_ADDRESSES = 7
"""The first six of a host, which may have many of containers behind them, and the loopback's."""
_PATIENCE_S = 20.0
"""For a first sign of life: a rank that has met its own neighbours answers others at its next look only."""


def watch_each_other(comm: MPI.Intracomm, watch: Watch) -> None:
    """Let the ranks watch each other from now on. Collective.

    Those that cannot reach each other, as datagrams do not get from host to host, are named in a warning.
    """
    here_only = len(ranks_alike(comm, machine_id() + _network())) == comm.size
    token = share_bytes(comm, secrets.token_bytes(TOKEN_BYTES) if comm.rank == 0 else None)
    own: socket.socket | None = None
    row = np.zeros(1 + _MOST_ADDRESSES, np.int64)
    with suppress(OSError):  # a sandbox may allow none
        own = own_socket(here_only=here_only)
        *others, loopback = own_addresses(here_only=here_only)
        addresses = [*others[: _MOST_ADDRESSES - 1], loopback]
        row[1 : 1 + len(addresses)] = [struct.unpack("!I", socket.inet_aton(address))[0] for address in addresses]
        row[0] = own.getsockname()[1]
    rows = allgather(comm, row).tolist()
    if own is None or not all(port for port, *_ in rows):
        _go_on_unwatched(comm, watch, own, [port for port, *_ in rows].index(0))
        return
    everyone = [
        [(socket.inet_ntoa(struct.pack("!I", number)), port) for number in numbers if number] for port, *numbers in rows
    ]
    beats = Beats(comm.rank, everyone, own, token)
    _warn_of(comm, beats.meet(_PATIENCE_S))
    watch.over(beats)  # not before: whoever dies until here is missed by the limit for the start


def _go_on_unwatched(comm: MPI.Intracomm, watch: Watch, own: socket.socket | None, without: int) -> None:
    if own is not None:
        own.close()
    watch.over(None)
    if comm.rank == 0:
        log.warning(
            "rank %d may open no UDP socket, so ranks do not watch each other: if one dies and no launcher notices, "
            "nobody does; with SLURM give srun -K1",
            without,
        )


def _network() -> bytes:
    """The name space of networks that this process is in: the loopback of another one is another."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/net").readlink()).encode()
    return b""


def _warn_of(comm: MPI.Intracomm, unheard: list[int]) -> None:
    """Say on rank 0 which host hears nothing of which rank. Collective."""
    named = allgather(comm, np.array([unheard[0] if unheard else -1]))[:, 0]
    deaf = np.flatnonzero(named >= 0)
    if not len(deaf):
        return
    first = int(deaf[0])
    host = share_bytes(comm, host_name().encode() if comm.rank == first else None, root=first).decode()
    if comm.rank == 0:
        log.warning(
            "rank %d on host %s hears nothing of rank %d by UDP (nor do %d others of theirs): if a rank dies and no "
            "launcher notices, nobody else does; with SLURM give srun -K1",
            first,
            host,
            named[first],
            len(deaf) - 1,
        )
