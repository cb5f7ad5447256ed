"""What a browser, or whoever else reaches the port, may send to ``view``."""

from __future__ import annotations

import io
import tempfile
from contextlib import ExitStack
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

from bench.faults.fuzz.bases import EXPLAINED, RESULTS, SLIDE, base
from bench.faults.fuzz.target import Target
from pyramidai_mpi.view import server as view_server
from pyramidai_mpi.view.opening import open_view
from pyramidai_mpi.view.pages import Pages

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_HEAD = b"GET /t/%s HTTP/1.1\r\nHost: localhost:1\r\n\r\n"


class _Connection:
    """A socket whose other end has said all that it will."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    def makefile(self, mode: str, _buffering: int = -1) -> io.BufferedIOBase:
        return io.BytesIO(self._said) if "r" in mode else io.BufferedWriter(_Nowhere())

    def settimeout(self, _: float) -> None:
        pass

    def setsockopt(self, *_: Any) -> None:
        pass

    def shutdown(self, _: int) -> None:
        pass

    def sendall(self, _: bytes) -> None:
        pass


class _Nowhere(io.RawIOBase):
    """Takes any answer."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


@cache
def _server() -> Any:
    """The server of a view of base files, which listens nowhere; they stay open as long as the process lives."""
    stack = ExitStack()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    for name in (RESULTS[0], EXPLAINED, SLIDE):
        (folder / name).write_bytes(base(name))
    view = stack.enter_context(open_view(folder / RESULTS[0], folder / SLIDE, None, folder / EXPLAINED))
    server = view_server.ViewServer.__new__(view_server.ViewServer)
    server.pages, server.token, server.hosts = Pages(view), "t", frozenset({"localhost:1"})
    server._kept_open = stack  # type: ignore[attr-defined]
    return server


class _Unhurried(view_server._Handler):
    """Starts no clock for each request: seen under atheris, a thread of Python that ends leaves memory behind."""

    def handle_one_request(self) -> None:
        self._hurry = Timer(0, self._hang_up)  # never started
        BaseHTTPRequestHandler.handle_one_request(self)


def _read(data: bytes, _: Path) -> None:
    _Unhurried(_Connection(data), ("127.0.0.1", 2), _server())  # type: ignore[arg-type]


def _seeds(_: Path) -> dict[str, bytes]:
    asked = {
        "page": b"", "result": b"result.json", "tile": b"slide/0/0_0", "thumbnail": b"thumbnail/0/0_0",
        "at": b"at/10_10",
        "regions": b"regions.json", "explained": b"explained/0/0_0.png", "explained-at": b"explained/at/40_40",
        "far": b"slide/9/99999999999_1", "scores": b"scores.png",
    }  # fmt: skip
    seeds = {name: _HEAD % path for name, path in asked.items()}
    seeds["two"] = seeds["at"] + seeds["tile"]
    seeds["origin"] = b"HEAD /t/at/1_1 HTTP/1.1\r\nHost: localhost:1\r\nOrigin: http://localhost:1\r\n\r\n"
    seeds["post"] = b"POST /t/ HTTP/1.0\r\nHost: localhost:1\r\nContent-Length: 5\r\n\r\nhello"
    return seeds


def _mutate(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    """The path asked for, or a line of the head."""
    first, _, rest = data.partition(b"\r\n")
    words = first.split(b" ")
    if len(words) > 1 and chance.random() < 0.7:
        parts = words[1].split(b"/")
        numbers = [
            b"0",
            b"1",
            b"-1",
            b"5",
            b"00",
            b"9" * 20,
            b"1e3",
            b"%30",
            b"..",
            b"0_0",
            b"1_2",
            b"99_0",
            b"\xd9\xa3_1",
        ]
        parts[chance.randrange(len(parts))] = chance.choice([*numbers, blind(parts[-1])])
        words[1] = b"/".join(parts)
        return b" ".join(words) + b"\r\n" + rest
    lines = rest.split(b"\r\n")
    extra = [
        b"Host: localhost:1",
        b"Host: x",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Connection: keep-alive",
    ]
    lines.insert(chance.randrange(len(lines)), chance.choice([*extra, b"X" * 2000, blind(lines[0])]))
    return first + b"\r\n" + b"\r\n".join(lines)


REQUESTS = Target(
    _read,
    _seeds,
    _mutate,
    prepare=_server,
    memory_mib=4096,  # of addresses: each thread of the C library's memory reserves some
    words=(b"GET ", b"HEAD ", b" HTTP/1.1\r\n", b"Host: localhost:1\r\n", b"/t/", b"slide/", b"at/", b"_"),
)
