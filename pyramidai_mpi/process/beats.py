"""Signs of life that the processes of a job send each other, as datagrams beside MPI.

A process that works for minutes, alone, makes no call of MPI, and nobody can tell it from a dead one by messages. So
each has a socket, and a thread (see `watch`) sends some others a datagram every few seconds. Neighbours are those of an
8-ary tree: at most nine for any number of processes, and whatever part of a job is cut off, somebody in it has a
neighbour beyond. Whoever gives up tells all at once.

A datagram bears a number that the processes of this job alone know.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TOKEN_BYTES = 16
_ARITY = 8
_FORMAT = struct.Struct(f"!{TOKEN_BYTES}sBI?")
_BEAT, _FAREWELL, _END = range(3)
_LOOPBACK = "127.0.0.1"
_GET_ADDRESS = 0x8915  # SIOCGIFADDR
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2e-3, 0.2
_TIMES, _BETWEEN_S = 3, 0.02
"""How often all are told of the end: a datagram may be lost."""
_DOUBT_S = 25.0
"""After that much silence a neighbour is sought at all its addresses: the way that was taken may have failed alone."""
_MOST_TAKEN = 1000
"""Datagrams that are taken at one look: whoever floods the socket is not to keep it from ending."""

Address = tuple[str, int]


def own_socket(*, here_only: bool) -> socket.socket:
    """A socket for signs of life, that this machine's processes alone can reach, or those of other hosts too."""
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setblocking(False)
    own.bind((_LOOPBACK if here_only else "", 0))
    return own


def own_addresses(*, here_only: bool) -> list[str]:
    """IPv4 addresses of this host, the loopback's last."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in [] if here_only else socket.if_nameindex():
            with suppress(OSError):  # it has none
                asked = struct.pack("256s", name.encode()[:15])
                found.append(socket.inet_ntoa(fcntl.ioctl(any_socket, _GET_ADDRESS, asked)[20:24]))
    return [*(address for address in found if not address.startswith("127.")), _LOOPBACK]


def neighbours(number: int, size: int) -> list[int]:
    """Who watches whom: parent and children in an 8-ary tree."""
    parents = [(number - 1) // _ARITY] if number else []
    return [*parents, *range(_ARITY * number + 1, min(_ARITY * number + _ARITY + 1, size))]


@dataclass
class _Neighbour:
    """What is known of one.

    Attributes
    ----------
    came_from
        Address of its last sign, None before the first.
    hears_us
        Whether it says so.
    silent_s
        Since its last sign, by what was counted.
    has_left
        Whether it has said farewell: it is waited for no longer.
    """

    came_from: Address | None = None
    hears_us: bool = False
    silent_s: float = 0.0
    has_left: bool = False

    @property
    def is_heard(self) -> bool:
        """Whether it was heard of lately."""
        return self.came_from is not None and self.silent_s < _DOUBT_S


class Beats:
    """Signs of life between this process and its neighbours.

    Parameters
    ----------
    number
        This process's.
    addresses
        Of all processes: where each may be reached, this one's as well.
    own
        This one's socket, see `own_socket`.
    token
        What all of them know.
    """

    def __init__(self, number: int, addresses: Sequence[Sequence[Address]], own: socket.socket, token: bytes) -> None:
        self._number, self._addresses, self._socket, self._token = number, addresses, own, token
        self._of = {other: _Neighbour() for other in neighbours(number, len(addresses))}
        self.is_over = False
        """Whether somebody has said that the job ends."""

    def meet(self, patience_s: float, pause: Callable[[float], None] = time.sleep) -> list[int]:
        """Send and take the first signs; the neighbours that nothing was heard of meanwhile."""
        pause_s, waited_s = _FIRST_PAUSE_S, 0.0
        self.send()
        while not self.is_over:
            self.receive()
            missing = [other for other, of in self._of.items() if of.came_from is None]
            if not missing or waited_s > patience_s:
                return missing
            pause(pause_s)
            waited_s += pause_s
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            self._send_to(missing)
        return []

    def send(self) -> None:
        """Give all neighbours a sign of life."""
        self._send_to(self._of)

    def receive(self) -> None:
        """Take what has come."""
        asks = set()
        for _ in range(_MOST_TAKEN):
            try:
                data, address = self._socket.recvfrom(_FORMAT.size + 1)
            except OSError:  # nothing more, or what an earlier datagram has met on its way
                break
            if len(data) != _FORMAT.size:
                continue
            token, kind, number, hears_us = _FORMAT.unpack(data)
            if token != self._token:
                continue
            if kind == _END:
                self.is_over = True
            elif (of := self._of.get(number)) is not None:
                of.came_from, of.hears_us, of.silent_s = address, hears_us, 0.0
                of.has_left = of.has_left or kind == _FAREWELL
                if not hears_us:
                    asks.add(number)
        self._send_to(asks)

    def count(self, seconds: float) -> None:
        """So much time has passed."""
        for of in self._of.values():
            of.silent_s += seconds

    def most_silent(self) -> tuple[int, float]:
        """The neighbour that was longest silent, and seconds; -1 and 0 where there is none to be waited for.

        What was never heard of, as between hosts that let no datagrams through, says nothing.
        """
        waited_for = [(of.silent_s, other) for other, of in self._of.items() if of.came_from and not of.has_left]
        silent_s, number = max(waited_for, default=(0.0, -1))
        return number, silent_s

    def say_farewell(self) -> None:
        """Tell the neighbours that this process is well and leaves."""
        self._send_to(self._of, _FAREWELL)

    def end_all(self) -> None:
        """Tell all processes that the job ends."""
        message = _FORMAT.pack(self._token, _END, self._number, False)
        for turn in range(_TIMES):
            time.sleep(_BETWEEN_S if turn else 0)
            for number, addresses in enumerate(self._addresses):
                if number != self._number:
                    self._send(message, addresses)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _send_to(self, numbers: Iterable[int], kind: int = _BEAT) -> None:
        for number in numbers:
            of = self._of[number]
            if not of.has_left:
                message = _FORMAT.pack(self._token, kind, self._number, of.is_heard)
                where_from = [] if of.came_from is None else [of.came_from]
                is_sure = of.hears_us and of.is_heard
                self._send(message, where_from if is_sure else [*where_from, *self._addresses[number]])

    def _send(self, message: bytes, addresses: Iterable[Address]) -> None:
        for address in addresses:
            with suppress(OSError):  # no way there, or no room: another one follows
                self._socket.sendto(message, address)
