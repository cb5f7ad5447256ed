"""A word that is neither a command nor a file stops a run before it writes anything; what was meant is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.cli.mistyped import mistyped, mistyped_choice

COMMANDS = ("run", "digest", "info", "tissue", "export", "tune", "evaluate", "classify", "models", "synth")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: a slide and a result, by their names alone, and a folder."""
    for name in ("slide.tif", "slide.h5", "0001"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "slides").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("word", "meant"),
    [("exprot", "export"), ("EXPORT", "export"), ("inof", "info"), ("tisue", "tissue"), ("evalute", "evaluate"),
     ("synht", "synth"), ("digets", "digest"), ("modles", "models")],
)  # fmt: skip
def test_the_nearest_command_is_named(folder, word, meant):
    error = mistyped([Path(word), Path("slide.tif")], COMMANDS)
    assert isinstance(error, UsageError)
    assert str(error) == f"{word}: is neither a command nor a file or folder; did you mean '{meant}'?"


def test_what_is_like_no_command_is_sent_to_the_help(folder):
    error = mistyped([Path("qwxz")], COMMANDS)
    assert str(error) == "qwxz: is neither a command nor a file or folder (see pyramidai --help)"


def test_a_command_behind_its_file_is_told_to_go_first(folder):
    error = mistyped([Path("slide.tif"), Path("tissue")], COMMANDS)
    assert str(error) == "tissue: is a command and goes first: pyramidai tissue ..."


@pytest.mark.parametrize("words", [["slide.h5"], ["slide.tif", "slide.h5"], ["slide.h5", "exprot"]])
def test_a_result_is_no_slide_and_the_commands_for_it_are_named(folder, words):
    error = mistyped([Path(word) for word in words], COMMANDS)
    assert isinstance(error, InputError)
    assert "slide.h5: is an HDF5 file" in str(error)
    assert "try: pyramidai info slide.h5, or pyramidai export slide.h5" in str(error)


@pytest.mark.parametrize("words", [[""], ["run", ""], ["slide.tif", ""], ["tissue", ""], ["slide.tif", "-o", ""]])
def test_an_empty_word_is_not_the_current_folder(folder, capsys, words):
    assert run_command_line(words) == 64
    assert capsys.readouterr().err.startswith("pyramidai: error: '': an empty word, as of a variable without a value")
    assert sorted(path.name for path in folder.iterdir()) == ["0001", "slide.h5", "slide.tif", "slides"]


@pytest.mark.parametrize(
    "word",
    ["slide.tif", "slides", "0001", "gone.tif", "gone.h5", "slides/gone", "gon*", "x" * 300 + ".tif"],
)
def test_files_patterns_and_names_that_can_only_be_files_are_left_to_whoever_opens_them(folder, word):
    assert mistyped([Path(word)], COMMANDS) is None


def test_a_file_called_as_a_mistyped_command_is_that_file(folder):
    (folder / "exprot").touch()
    assert mistyped([Path("exprot")], COMMANDS) is None


def test_a_word_among_a_few_or_a_file_is_told_likewise(folder):
    methods = ("od", "hsv-otsu")
    for word in (*methods, "0001", "slides", "gone.png", "masks/"):
        assert mistyped_choice("--tissue", word, methods) is None
    error = mistyped_choice("--tissue", "otsu", methods)
    assert str(error) == "--tissue otsu: is neither od, hsv-otsu nor a file or folder; did you mean 'hsv-otsu'?"


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["exprot", "slide.h5"], 64, "exprot: is neither a command nor a file or folder; did you mean 'export'?"),
        (["exprot", "slide.h5", "--csv", "tiles.csv"], 64, "did you mean 'export'"),
        (["slide.h5", "--csv", "tiles.csv"], 64, "pyramidai export slide.h5"),
        (["slide.tif", "--csv", "tiles.csv"], 64, "No such option '--csv'"),
        (["-q", "exprot", "--csv", "tiles.csv"], 64, "No such option '--csv'"),
        (["slide.tif", "exprot", "--results-dir", "made"], 64, "did you mean 'export'"),
        (["-q", "inof", "slide.tif"], 64, "did you mean 'info'"),
        (["slide.h5"], 65, "pyramidai info slide.h5"),
        (["slide.tif", "slide.h5"], 65, "no slide"),
        (["models", "quantise", "x"], 64, "'quantise'"),
        (["slide.tif", "--tissue", "otsu"], 64, "did you mean 'hsv-otsu'"),
        (["models"], 64, "Missing command. (see pyramidai models --help)"),
        (["classify"], 64, "Missing command. (see pyramidai classify --help)"),
        (["models", "build"], 64, "Missing argument 'ARCHITECTURE'"),
        (["slide.tif", "./slide.tif"], 64, "slide.tif: is named twice"),
        (["slide.tif", "--modle", "small"], 64, "'--model'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_is_one_line_and_nothing_is_written(folder, capfd, words, code, part):
    before = sorted(folder.rglob("*"))
    assert run_command_line(words) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("pyramidai: error: ")
    assert err.count("\n") == 1
    assert part in err
    assert sorted(folder.rglob("*")) == before
