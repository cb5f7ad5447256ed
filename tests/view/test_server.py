"""Nobody but the page itself, on this machine, is answered; and no request names a file."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import StorageError
from pyramidai_mpi.view import pages as pages_module
from pyramidai_mpi.view import server as server_module
from pyramidai_mpi.view.opening import open_view
from pyramidai_mpi.view.pages import Pages
from pyramidai_mpi.view.server import ViewServer
from tests.results import write_file
from tests.view.conftest import HOSTILE, serving


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def port_of(server) -> int:
    return server.server_address[1]


def ask(server, path, method="GET", body=None, **headers) -> Answer:
    """Ask with exactly these headers; a header Host among them replaces the right one."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in ({"Host": f"127.0.0.1:{port_of(server)}"} | headers).items():
        if value is not None:
            connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body)
    answer = connection.getresponse()
    try:
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def raw(server, text: bytes) -> bytes:
    """All that comes back to some bytes."""
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as connection:
        received = b""
        with suppress(OSError):  # who is hung up on may notice at any of these
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            while block := connection.recv(65536):
                received += block
    return received


def page(server, rest="") -> str:
    return f"/{server.token}/{rest}"


def test_it_answers_the_page_itself(server):
    answer = ask(server, page(server))
    assert answer.status == 200
    assert b"<title>" in answer.body
    assert ask(server, page(server, "result.json")).headers["Content-Type"] == "application/json"
    assert ask(server, page(server), Host=f"localhost:{port_of(server)}").status == 200


def test_it_listens_on_the_loopback_address_alone(server):
    """By the account of the kernel."""
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(table).is_file()
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == port_of(server)
    ]
    assert listening == [f"0100007F:{port_of(server):04X}"]  # 127.0.0.1, bytes the other way round


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1", "localhost", "127.0.0.1:1", "evil.example:{port}", "127.0.0.1:{port}.evil.example",
     "127.0.0.1.nip.io:{port}", "[::1]:{port}", "127.1:{port}", "LOCALHOST:{port}", "", None],
)  # fmt: skip
def test_a_request_for_another_host_is_refused(server, host):
    given = host if host is None else host.format(port=port_of(server))
    answer = ask(server, page(server, "result.json"), Host=given)
    assert answer.status == 421
    assert b"tif" not in answer.body


def test_two_hosts_are_none(server):
    host = f"Host: 127.0.0.1:{port_of(server)}\r\n"
    got = raw(server, f"GET {page(server)} HTTP/1.1\r\n{host}Host: evil.example\r\n\r\n".encode())
    assert got.startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"])
def test_a_page_of_elsewhere_is_refused(server, origin):
    assert ask(server, page(server), Origin=origin.format(port=port_of(server))).status == 403
    assert ask(server, page(server), Origin=f"http://127.0.0.1:{port_of(server)}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND"])
def test_it_can_only_be_read(server, method):
    answer = ask(server, page(server), method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_a_head_is_what_a_get_would_bring_without_its_body(server):
    whole, head = ask(server, page(server, "result.json")), ask(server, page(server, "result.json"), "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.body))


@pytest.mark.parametrize("first", ["", "x", "{token}x", "{half}", "{token}%00", "{token}/.."])
def test_nobody_without_the_token_learns_anything(server, first):
    token = first.format(token=server.token, half=server.token[:16])
    answer = ask(server, f"/{token}/result.json")
    assert answer.status == 404
    assert answer.body == b"404 Not Found\n"


def test_an_address_that_has_lost_its_last_slash_leads_to_the_page(server):
    answer = ask(server, f"/{server.token}")
    assert (answer.status, answer.headers["Location"], answer.body) == (308, f"/{server.token}/", b"")
    assert ask(server, answer.headers["Location"]).status == 200


def test_each_server_has_a_token_of_its_own(view):
    tokens = set()
    for _ in range(3):
        with ViewServer(Pages(view)) as server:
            tokens.add(server.token)
    assert len(tokens) == 3
    assert min(map(len, tokens)) >= 32


SECRET = "written beside the slide"
PATHS = ["../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "secret.txt", "./view.js", "view.js/",
         "view.js/../view.js", "//etc/passwd", "/etc/passwd", "..\\secret.txt", "slide/../secret.txt", "link",
         "link/secret.txt", "view.js%00.txt",
         "assets/view.js", "view.js?x=/etc/passwd", "view.js#x", "tiles.py", "../../pyramidai_mpi/view/server.py",
         "file:///etc/passwd", "slide", "slide/0", "slide/0/0_0/", "slide/0/0_0.jpg", "other/0/0_0", "__class__/0/0_0",
         "header/0/0_0", "slide_pixels/0/0_0", "annotations.json"]  # fmt: skip


@pytest.mark.parametrize("asked", PATHS)
def test_what_is_not_in_the_table_is_not_there(server, result, asked):
    secret, link = result.with_name("secret.txt"), result.with_name("link")
    secret.write_text(SECRET, encoding="utf-8")
    if not link.is_symlink():
        link.symlink_to(secret)
    line = f"GET {page(server, asked)} HTTP/1.1\r\nHost: 127.0.0.1:{port_of(server)}\r\nConnection: close\r\n\r\n"
    got = raw(server, line.encode())
    assert got.startswith(b"HTTP/1.1 404 ")
    assert SECRET.encode() not in got


_OPENED: list[str] = []
_WATCHING = [False]


def _watch(event, arguments):
    if _WATCHING[0] and event == "open":
        _OPENED.append(str(arguments[0]))


def test_no_request_opens_a_file(view):
    """Assets are read when the server starts, the slide is open: whatever is asked for, Python opens nothing."""
    with serving(view) as server:
        ask(server, page(server, "slide/0/0_0"))  # readers open the slide when they are first needed
        sys.addaudithook(_watch)  # for good: it is told when to listen
        _WATCHING[0] = True
        try:
            for asked in ("", "view.js", "openseadragon.js", "result.json", "scores.png", "at/1_1", *PATHS):
                ask(server, page(server, asked.replace(" ", "")))
        finally:
            _WATCHING[0] = False
    assert _OPENED == []


@pytest.mark.parametrize(
    "asked",
    ["slide/0/999999999_0", "slide/0/0_999999999", "slide/999999999/0_0", f"slide/0/{'9' * 400}_0", "slide/00/0_0",
     "slide/-1/0_0", "slide/0/-1_0", "slide/0/+1_0", "slide/0/1e3_0", "slide/0/nan_0", "slide/0/0x1_0", "slide/0/1_0_0",
     "at/nan_nan", "at/1.5_2", "at/-1_0", "at/inf_0", "thumbnail/0/999999999_999999999", "thumbnail/99/0_0",
     "thumbnail/0/31_0", "slide/%D9%A0/0_0"],
)  # fmt: skip
def test_numbers_that_are_none_of_a_tile_find_none(server, asked):
    assert ask(server, page(server, asked)).status == 404


def test_a_place_beyond_the_slide_has_no_tiles(server):
    answer = ask(server, page(server, "at/999999999_999999999"))
    assert (answer.status, json.loads(answer.body)) == (200, [])


def test_bytes_that_are_no_digits_are_none(server):
    line = f"GET /{server.token}/slide/".encode() + "٣/٣_٣".encode() + b" HTTP/1.1\r\n"
    got = raw(server, line + f"Host: 127.0.0.1:{port_of(server)}\r\nConnection: close\r\n\r\n".encode())
    assert got.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("asked", ["", "result.json", "slide/0/0_0", "none", "view.js"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_answer_forbids_what_a_page_might_do_with_it(server, asked, method):
    headers = ask(server, page(server, asked), method).headers
    policy = dict(part.split(maxsplit=1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Server"] == "pyramidai"


def test_a_second_request_hidden_in_a_body_is_not_answered(server):
    host = f"Host: 127.0.0.1:{port_of(server)}\r\n"
    hidden = f"GET {page(server, 'result.json')} HTTP/1.1\r\n{host}\r\n"
    for head in (f"Content-Length: {len(hidden)}\r\n", "Transfer-Encoding: chunked\r\n"):
        got = raw(server, f"GET {page(server)} HTTP/1.1\r\n{host}{head}\r\n{hidden}".encode())
        assert got.startswith(b"HTTP/1.1 400 ")
        assert got.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "text",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET /" + b"a" * 70000,
     b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(200)) + b"\r\n"],
    ids=["blank", "word", "version", "tls", "long", "headers"],
)  # fmt: skip
def test_what_is_no_request_is_refused_or_hung_up_on_and_harms_nobody(server, text, capfd):
    got = raw(server, text)
    assert got == b"" or re.match(rb"(HTTP/1.1 )?(4\d\d|505) ", got)
    assert b"<" not in got
    assert ask(server, page(server)).status == 200
    assert capfd.readouterr().err == ""


def test_too_many_connections_are_turned_away_and_the_others_served(server):
    host = f"Host: 127.0.0.1:{port_of(server)}\r\n"
    waiting = [socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) for _ in range(32)]
    try:
        for one in waiting:  # each has been accepted when it has been answered
            one.sendall(f"HEAD {page(server)} HTTP/1.1\r\n{host}\r\n".encode())
        assert all(one.recv(4096).startswith(b"HTTP/1.1 200 ") for one in waiting)
        turned_away = raw(server, f"GET {page(server)} HTTP/1.1\r\n{host}\r\n".encode())
        assert turned_away == b"" or turned_away.startswith(b"HTTP/1.1 503 ")
        waiting[0].sendall(f"HEAD {page(server)} HTTP/1.1\r\n{host}\r\n".encode())
        assert waiting[0].recv(4096).startswith(b"HTTP/1.1 200 ")
    finally:
        for one in waiting:
            one.close()


def test_a_port_that_is_taken_is_said(server, view):
    with pytest.raises(StorageError, match=f"port {port_of(server)}: Address already in use; give another one"):
        ViewServer(Pages(view), port_of(server))


def test_a_slide_that_was_written_to_is_no_longer_shown(tmp_path, lossless_slide, made):
    slide = shutil.copy(lossless_slide, tmp_path / lossless_slide.name)
    with open_view(write_file(tmp_path / "out.h5", made)) as opened, serving(opened) as server:
        assert ask(server, page(server, "slide/0/0_0")).status == 200
        with slide.open("ab") as file:
            file.write(b"more")
        answer = ask(server, page(server, "slide/0/0_0"))
        assert answer.status == 500
        assert "was written to" in answer.body.decode()
        (tmp_path / "out.h5").unlink()
        write_file(tmp_path / "out.h5", made)
        assert "changed since it was opened" in ask(server, page(server, "regions.json")).body.decode()


def test_a_bug_shows_its_traceback_here_and_nothing_of_it_there(view, capfd, monkeypatch):
    def broken(tiles, x, y):
        raise KeyError("of the program")

    monkeypatch.setattr(pages_module, "tiles_over", broken)
    with serving(view) as server:
        answer = ask(server, page(server, "at/1_1"))
        said = ""
        for _ in range(200):  # it is printed after the answer
            said += capfd.readouterr().err
            if "KeyError: " in said:
                break
            time.sleep(0.05)
    assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
    assert "KeyError: 'of the program'" in said


def test_a_hostile_name_is_a_text_of_json_and_of_no_page(tmp_path, made):
    named = replace(made, slide=replace(made.slide, name=HOSTILE), model=replace(made.model, name="</script>"))
    with open_view(write_file(tmp_path / "out.h5", named)) as opened, serving(opened) as server:
        said = json.loads(ask(server, page(server, "result.json")).body)
        assert (said["slide"]["name"], said["model"]) == (HOSTILE, "</script>")
        assert b"onerror" not in ask(server, page(server)).body


def test_who_drips_a_request_is_hung_up_on(server, monkeypatch):
    monkeypatch.setattr(server_module, "_PATIENCE_S", 0.5)
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        connection.settimeout(0.1)  # no read of the server's waits longer
        for _ in range(200):
            try:
                connection.sendall(b"x")
                if connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    pytest.fail("still connected after 20 s")
