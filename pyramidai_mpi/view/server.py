"""The server behind the page: this machine alone, this user alone, this page alone.

It listens on the loopback address. Other users of the machine and other pages in the same browser do not know the token
in its address; a page of elsewhere whose name was made to point here (DNS rebinding) is told apart by the Host header.
"""

from __future__ import annotations

import errno
import logging
import secrets
import socket
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import PyramidError, StorageError, printable

if TYPE_CHECKING:
    from pyramidai_mpi.view.pages import Answer, Pages

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_MOST_CONNECTIONS = 32
_PATIENCE_S = 60
_STYLE_OF_OPENSEADRAGON = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
"""The one style sheet that it makes itself: no outline of focus on touch screens."""
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    f"style-src 'self' {_STYLE_OF_OPENSEADRAGON}",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
_HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",  # pixels of patients stay out of the browser's folders
}


class ViewServer(ThreadingHTTPServer):
    """Serves the pages of one view until it is told to stop.

    Parameters
    ----------
    pages
        What there is.
    port
        Port to listen on; 0 takes a free one.

    Raises
    ------
    StorageError
        When the port is taken or may not be used.
    """

    daemon_threads = True
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, pages: Pages, port: int = 0) -> None:
        self.pages = pages
        self.token = secrets.token_urlsafe(24)
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise StorageError(f"port {port}: {error.strerror}; give another one with --port, or none") from error
        own = int(self.server_address[1])
        self.hosts = frozenset({f"{LOOPBACK}:{own}", f"localhost:{own}"})

    @property
    def address(self) -> str:
        """Address of the page, with its token."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/{self.token}/"

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called, as the parent does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = LOOPBACK, int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, unless there are too many."""
        if not self._free.acquire(blocking=False):
            with suppress(OSError):
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let go of a browser that went away; anything else is a bug, whose traceback is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE_S
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of an answer in one packet
    server: ViewServer

    def handle_one_request(self) -> None:
        """Answer one request, whose head has to come in time: each read has its own, and whoever drips could stay."""
        self._hurry = threading.Timer(_PATIENCE_S, self._hang_up)
        self._hurry.daemon = True
        self._hurry.start()
        try:
            super().handle_one_request()
        finally:
            self._hurry.cancel()

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def parse_request(self) -> bool:
        """Read a request's head; refuse what no page of ours asks."""
        is_whole = super().parse_request()
        self._hurry.cancel()
        if not is_whole:
            return False
        status = self._refusal()
        if status is not None:
            self.send_error(status)
        return status is None

    def _refusal(self) -> HTTPStatus | None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            return HTTPStatus.MISDIRECTED_REQUEST
        if any(origin != f"http://{hosts[0]}" for origin in self.headers.get_all("Origin", [])):
            return HTTPStatus.FORBIDDEN
        if self.command not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            return HTTPStatus.BAD_REQUEST  # what follows would be taken for a request
        return None

    def do_GET(self) -> None:
        """Answer."""
        first, slash, asked = self.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(first.encode(), self.server.token.encode()) or not self.path.startswith("/"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        if not slash:  # all that the page asks for would be looked for beside the token, and the page stay empty
            self._send(HTTPStatus.PERMANENT_REDIRECT, "text/plain; charset=utf-8", b"")
            return
        try:
            found = self.server.pages.answer(asked)
        except PyramidError as error:
            log.warning("%s", error)
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", printable(str(error)).encode())
            return
        except Exception:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._answer(found)

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.do_GET()

    def _answer(self, found: Answer) -> None:
        self._send(HTTPStatus.OK, found.kind, found.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse in plain text, which repeats nothing of the request, and hang up."""
        self.close_connection = True
        status = HTTPStatus(code)
        self._send(status, "text/plain; charset=utf-8", f"{status.value} {status.phrase}\n".encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if status == HTTPStatus.PERMANENT_REDIRECT:
            self.send_header("Location", f"/{self.server.token}/")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def version_string(self) -> str:
        """Say no more of the program than its name."""
        return "pyramidai"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the parent's name
        """Keep quiet: addresses hold the token."""
