"""``pyramidai view``: one line with the address, until Ctrl-C."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY
from tests.browser import browser
from tests.end_to_end.conftest import pyramidai
from tests.view.test_page import open_page, wait_for

ADDRESS = re.compile(r"(http://127\.0\.0\.1:\d+/[\w-]{32}/)  \(Ctrl-C ends it\)\n")


@contextmanager
def started(*arguments, cwd, **environment):
    """The command with its address; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pyramidai_mpi", "view", *map(str, arguments)],
        cwd=cwd,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "", "HOME": str(cwd)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = ADDRESS.fullmatch(process.stdout.readline())
        yield process, found and found[1]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_prints_its_address_and_ends_well_when_it_is_told_to(result, folder, number):
    with started(result, cwd=folder) as (process, address):  # no screen, so no browser
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert answer.status == 200
        process.send_signal(number)
        rest, complaints = process.communicate(timeout=30)
    assert (process.returncode, rest, complaints.strip()) == (0, "", "")
    assert list(folder.iterdir()) == []  # nothing is left behind


def test_it_opens_a_browser_where_there_is_a_screen(result, folder, tmp_path):
    browser_of_user = tmp_path / "browser"
    browser_of_user.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser_of_user.chmod(0o755)
    said = {"DISPLAY": ":0", "BROWSER": str(browser_of_user), "PATH": "/usr/bin:/bin"}
    with started(result, cwd=folder, **said) as (_, address):
        wait_for((tmp_path / "opened").is_file)
        wait_for(lambda: (tmp_path / "opened").read_text() == f"{address}\n")
    (tmp_path / "opened").unlink()
    for arguments, without in (((result, "--no-browser"), {}), ((result,), {"DISPLAY": ""})):
        with started(*arguments, cwd=folder, **(said | without)) as (_, address):
            with urllib.request.urlopen(address, timeout=20):
                pass
            time.sleep(0.3)
        assert not (tmp_path / "opened").exists()


def test_a_page_that_is_still_open_says_that_the_program_has_ended(result, folder, tmp_path):
    with browser(tmp_path / "profile") as page, started(result, "--no-browser", cwd=folder) as (process, address):
        page.resize(1000, 700)
        open_page(page, address)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        page.hover("#viewer", 10, 10)
        page.hover("#viewer", 60, 40)
        wait_for(lambda: "has ended" in page.run("return document.getElementById('banners').textContent"))


def test_a_port_can_be_chosen_and_a_taken_one_is_said(result, folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = pyramidai("view", result, "--port", str(port), "--no-browser", cwd=folder)
        assert done.returncode == 74
        assert done.stderr.splitlines() == [
            f"pyramidai: error: port {port}: Address already in use; give another one with --port, or none"
        ]
    time.sleep(0.1)
    with started(result, "--port", port, cwd=folder) as (_, address):
        assert f":{port}/" in address


def test_bad_input_is_one_line(result, folder, slide):
    for arguments, code, words in [
        ((result.with_name("none.h5"),), 65, "no such result file"),
        ((result, "--slide", slide), 65, "is not the slide that"),
        ((result, "--annotations", folder / "none.xml"), 65, "none.xml"),
        ((result, "--port", "70000"), 64, "70000"),
        ((slide,), 65, str(slide)),
    ]:
        done = pyramidai("view", *arguments, cwd=folder)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (code, "", 1)
        assert words in done.stderr


def test_why_the_slide_is_not_shown_is_said_here_too(result, made, folder):
    from tests.results import write_file

    alone = write_file(folder / "alone.h5", made)
    with started(alone, cwd=folder) as (process, address):
        assert address
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
    assert complaints.splitlines()[0].startswith("alone.h5: The slide is not beside its result")
