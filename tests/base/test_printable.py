"""Names of files and what files say are shown, never obeyed: no line of their own, no command to the terminal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import InputError, failure_report, printable
from pyramidai_mpi.cli.main import run_command_line

if TYPE_CHECKING:
    from pathlib import Path

EVIL = "a\x1b[2J\x07\r\npyramidai: all is well\u202e\x9b31m.tif"


@given(st.text())
def test_what_is_printed_shows_every_character_and_plain_text_is_left_alone(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert not text.isprintable() or shown == text


@pytest.mark.parametrize("command", [["run"], ["info"], ["digest"]])
def test_a_file_of_an_evil_name_is_one_printable_line(command, tmp_path: Path, capfd):
    (tmp_path / EVIL).write_bytes(b"no slide")
    assert run_command_line([*command, str(tmp_path / EVIL)]) == 65
    said = capfd.readouterr().err
    assert said.endswith("\n")
    assert said[:-1].isprintable()
    assert "\\x1b[2J" in said


def test_what_a_rank_says_before_it_ends_the_job_is_printable():
    assert failure_report(InputError(EVIL), 0, 1, "n1")[:-1].isprintable()


def test_what_is_logged_is_printable_but_for_our_own_indented_lists():
    from pyramidai_mpi.cli.running import PrintableFormatter

    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "2 slides failed:\n  %s", (EVIL,), None)
    first, second = PrintableFormatter("%(message)s").format(record).split("\n")
    assert first == "2 slides failed:"
    assert second.isprintable()
    assert "\\x1b[2J" in second


def test_the_result_of_a_slide_of_an_evil_name_stays_in_its_folder(tmp_path: Path):
    from pathlib import Path

    from pyramidai_mpi.run.selection import plan_outputs

    names = [EVIL, "..", "../up.tif", "a/../../b.tif", "-rf.tif", ".hidden"]
    for output in plan_outputs([Path(name) for name in names], None, tmp_path):
        assert output.resolve().parent == tmp_path.resolve()
        assert output.suffix == ".h5"
