"""``pyramidai patches measure``: what it says, writes and refuses; what follows from times is in tests/patches."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.patches import page_cache
from tests.patch_files import order_of, write_patches_of, write_pictures_of
from tests.tiffs import textured, write_slide


def words(*arguments: object) -> list[str]:
    return [str(argument) for argument in ("patches", "measure", *arguments)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two files of 192 patches each, in a folder without anything else."""
    folder = tmp_path_factory.mktemp("measured")
    slides = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate("ab"):
        slide = write_slide(slides / f"{name}.tif", [textured(1024, 768, seed=seed)])
        write_patches_of(slide, folder / f"{name}.patches.h5", order_of())
    write_patches_of(slide, slides / "none.patches.h5", order_of(pixels="none"))
    return folder


@pytest.fixture
def none(folder):
    return next(folder.parent.glob("slides*/none.patches.h5"))


def test_a_table_a_recommendation_and_files_of_both(folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    table, figure = tmp_path / "t.csv", tmp_path / "f.png"
    way = ("--groups", "50, 20,400", "--repeats", 2, "-o", table, "--plot", figure)
    assert run_command_line(words(folder / "a.patches.h5", *way)) == 0
    said = capsys.readouterr()
    assert "a.patches.h5: 192 patches of 96 x 96 px" in said.out
    lines = said.out.splitlines()
    assert [line.split()[:2] for line in lines if line.split()[0] == "warm"] == [["warm", "20"], ["warm", "50"]]
    assert re.search(r"^take groups of (20|50) \(--group \1\): .*Decoded, one takes [01]\.\d MB", lines[-1])
    assert "groups of 400 are left out" in said.err
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 2 * 2 * 4  # sizes, repeats, ways
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert {row["file"] for row in rows} == {"a.patches.h5"}
    with Image.open(figure) as image:
        assert np.asarray(image.convert("L")).std() > 5
    assert run_command_line(words(folder / "a.patches.h5", *way)) == ExitCode.OUTPUT_EXISTS
    assert run_command_line(words(folder, *way, "--overwrite")) == 0
    assert "2 files of" in capsys.readouterr().out
    assert {row["file"] for row in csv.DictReader(table.open())} == {"a.patches.h5", "b.patches.h5"}


def test_patches_that_are_kept_as_pictures_are_measured_too(tmp_path, capsys):
    path = write_pictures_of([bytes(3 * 32 * 32)] * 60, tmp_path / "a.patches.h5", 32, "raw")
    assert run_command_line(words(path, "--groups", "10,30", "--repeats", 1)) == 0
    assert "60 patches of 32 x 32 px" in capsys.readouterr().out


def test_cold_is_measured_where_it_can_be_had_and_else_it_says_why_not(folder, capsys):
    assert run_command_line(words(folder, "--groups", 20, "--repeats", 1, "--cold")) == 0
    said = capsys.readouterr()
    can_be_had = any(line.split()[0] == "cold" for line in said.out.splitlines())
    assert can_be_had != ("--cold cannot be had here" in said.err)


def test_a_file_system_that_does_not_forget_is_named_and_nothing_is_called_cold(folder, capsys, monkeypatch):
    monkeypatch.setattr(page_cache, "forget", page_cache.remember)
    page_cache.remember(folder / "a.patches.h5")
    if page_cache.share_in_memory(folder / "a.patches.h5") is None:
        pytest.skip("this file system does not say what of a file is in memory")
    assert run_command_line(words(folder, "--groups", 20, "--repeats", 1, "--cold")) == 0
    said = capsys.readouterr()
    assert "--cold cannot be had here: 100% of it stay in memory" in said.err
    assert not any(line.split()[0] == "cold" for line in said.out.splitlines())
    monkeypatch.setattr(page_cache, "share_in_memory", lambda path: None)
    assert run_command_line(words(folder, "--groups", 20, "--repeats", 1, "--cold")) == 0
    said = capsys.readouterr()
    assert "what is called cold may be warm" in said.err
    assert any(line.split()[0] == "cold" for line in said.out.splitlines())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--groups", "0,3"), "--groups 0,3: expected numbers of patches above 0"),
        (("--groups", "many"), "--groups many"),
        (("--repeats", 0), "--repeats"),
        (("--plot", "x.jpg"), "--plot x.jpg: expected a name that ends with .png or .svg"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(options, said, folder, capsys):
    assert run_command_line(words(folder, *options)) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_what_cannot_be_measured_is_refused(folder, none, tmp_path, capsys):
    for place, options, code, said in (
        (none, (), ExitCode.BAD_INPUT, "keeps coordinates alone"),
        (folder, ("--groups", 1000), ExitCode.BAD_INPUT, "there are 192 patches in a file"),
        (tmp_path / "x.h5", (), ExitCode.BAD_INPUT, "no such file"),
        (tmp_path, (), ExitCode.BAD_INPUT, "holds no file of patches"),
        (folder, ("--groups", 20, "-o", tmp_path / "no" / "x.csv"), ExitCode.IO, "no such folder"),
    ):
        assert run_command_line(words(place, *options)) == code
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
