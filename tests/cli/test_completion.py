"""What the tab key offers: commands, options, values and files, in real bash and by the words of the other shells."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.test_layering import loaded_by

PATIENCE_S = 60.0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: slides, a result, a folder, and what hides."""
    for name in ("slide 1.tif", "tumour.svs", "slow.h5", ".hidden.tif"):
        (tmp_path / name).touch()
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "deep.tif").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(monkeypatch, capfdbinary, shell: str, words: str) -> list[str]:
    """What the program answers that shell's function for a line whose last word is being typed."""
    monkeypatch.setenv("_PYRAMIDAI_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    typed = words.split(" ")
    monkeypatch.setenv("COMP_CWORD", typed[-1] if shell == "fish" else str(len(typed) - 1))
    with pytest.raises(SystemExit) as caught:
        run_command_line([])
    assert caught.value.code == 0
    return capfdbinary.readouterr().out.decode().splitlines()


@pytest.fixture
def bash(monkeypatch, capfdbinary):
    return lambda words: offered(monkeypatch, capfdbinary, "bash", words)


def test_a_bare_word_may_become_a_command_or_a_file(folder, bash):
    files = ["plain,slide 1.tif", "plain,slides/", "plain,slow.h5"]
    assert bash("pyramidai s") == ["plain,segment", "plain,simulate", "plain,synth", *files]
    found = bash("pyramidai ")
    assert found[:3] == ["plain,run", "plain,digest", "plain,info"]
    assert {"plain,tumour.svs", "plain,slides/"} <= set(found)
    assert "plain,.hidden.tif" not in found
    # where no command begins so, bash completes the file itself, with folders and blanks
    assert bash("pyramidai sli") == ["file,sli"]
    assert bash("pyramidai slides/") == ["file,slides/"]
    assert bash("pyramidai exp") == ["plain,export", "plain,explain"]
    assert bash("pyramidai explain slow.h5 --method gr") == ["plain,gradcam", "plain,gradcam++"]


def test_behind_a_slide_stand_the_options_of_a_run(folder, bash):
    assert (
        bash("pyramidai tumour.svs --mo") == bash("pyramidai run tumour.svs --mo") == ["plain,--model", "plain,--mode"]
    )
    assert bash("pyramidai --mo") == ["plain,--model", "plain,--mode"]
    assert bash("pyramidai tumour.svs --mode ref") == ["plain,reference"]
    assert bash("pyramidai tumour.svs sl") == ["file,sl"]


def test_files_are_offered_for_arguments_and_for_options_that_take_one(folder, bash):
    for words in (
        "info sl",
        "export sl",
        "tune slow.h5 --truth sl",
        "classify predict sl",
        "models quantize m --calibrate sl",
    ):
        assert bash(f"pyramidai {words}") == ["file,sl"]


def test_models_are_offered_by_name_beside_folders(folder, bash):
    assert bash("pyramidai tumour.svs --model s") == ["plain,small", "plain,small-valid", "plain,slides/"]
    assert bash("pyramidai tumour.svs --model sli") == ["dir,sli"]


def test_commands_of_commands_are_offered(folder, bash):
    assert bash("pyramidai models ") == ["plain,build", "plain,import", "plain,list", "plain,quantize"]
    assert bash("pyramidai classify f") == ["plain,fit"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_hear_the_same_with_explanations(folder, monkeypatch, capfdbinary, shell):
    found = "\n".join(offered(monkeypatch, capfdbinary, shell, "pyramidai ex"))
    assert re.search(r"plain.export.Make tables", found, re.DOTALL)
    assert re.search(r"file.ex", found, re.DOTALL)  # these shells complete files beside words
    assert re.search(r"--model\b", "\n".join(offered(monkeypatch, capfdbinary, shell, "pyramidai tumour.svs --mod")))


@pytest.mark.parametrize(
    "words",
    ["pyramidai ", "pyramidai exp", "pyramidai tumour.svs --mo", "pyramidai export a.h5 --", "pyramidai models "],
)
def test_an_answer_loads_nothing_heavy(monkeypatch, words):
    monkeypatch.setenv("_PYRAMIDAI_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    run = "import runpy; runpy.run_module('pyramidai_mpi', run_name='__main__', alter_sys=True)"
    assert loaded_by(run) == set()


def typed_into_bash(folder, keys: str) -> str:
    """Arguments that a program called `pyramidai` gets from an interactive bash with these keys; one a line."""
    program = folder / "bin" / "pyramidai"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\n[ -z "$_PYRAMIDAI_COMPLETE" ] || exec "{sys.executable}" -m pyramidai_mpi\n'
        "for word; do printf 'GOT:%s;' \"$word\"; done; echo\n"
    )
    program.chmod(0o755)
    (folder / "rc").write_text(
        'PS1="ready "; bind "set enable-bracketed-paste off"; eval "$(_PYRAMIDAI_COMPLETE=bash_source pyramidai)"\n'
    )
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "TERM": "dumb",
    }
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", "rc", "-i"],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)

    def read_until(mark: str) -> str:
        seen, end = "", time.monotonic() + PATIENCE_S
        while mark not in seen:
            assert time.monotonic() < end, seen
            if select.select([ours], [], [], 1)[0]:
                seen += os.read(ours, 4096).decode(errors="replace")
        return seen

    try:
        read_until("ready ")
        os.write(ours, f"{keys}\r".encode())
        return "\n".join(re.findall(r"GOT:([^;]*);", read_until("\r\nready ")))
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        os.close(ours)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("pyramidai expo\tsl\tow\t --ge\tx", ["export", "slow.h5", "--geojson", "x"]),
        ("pyramidai tu\tm\t --mode ex\t", ["tumour.svs", "--mode", "exhaustive"]),
        ("pyramidai slide\\ \t", ["slide 1.tif"]),
        ("pyramidai slides\t\t", ["slides/deep.tif"]),
    ],
)
def test_in_bash_the_tab_key_completes_it(folder, keys, words):
    assert typed_into_bash(folder, keys).split("\n") == words
