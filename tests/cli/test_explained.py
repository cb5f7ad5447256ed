"""Commands that know files of explained tiles."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.store.explanations.contents import explanation_digest
from tests.explained import explanation_of, write_explained
from tests.results import result_of, write_file


@pytest.fixture(scope="module")
def made():
    repeats = explanation_of().tiles.repeatability
    repeats[:] = [0.9, 0.95, 1, 0.85, np.nan, 0.8]
    made = explanation_of(method="rise", layer="")
    made.tiles.repeatability[:] = repeats
    return made


@pytest.fixture
def call(tmp_path, monkeypatch, capfd, made):
    """Run a command in a folder with a result and explained tiles; exit code, output and errors."""
    write_explained(tmp_path / "a.explained.h5", made)
    write_file(tmp_path / "a.h5", result_of())
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = run_command_line(list(words))
        return int(code), *capfd.readouterr()

    return run


def test_info_says_what_was_explained_how(call, made):
    code, out, _ = call("info", "a.explained.h5")
    assert code == 0
    for part in (
        "method     rise for tumor at level 0\n",
        'settings   {"steps":8,"tiles":"top:6"}\n',
        "tiles      6 tiles, 1 unreadable; maps of 4 x 4 px\n",
        "correlate to 0.800 at least, 0.900 in the mean\n",
        "no evidence of what is there",
        f"digest     {explanation_digest(made)}\n",
    ):
        assert part in out


def test_digest_is_that_of_the_explanation(call, made):
    assert call("digest", "a.explained.h5") == (0, explanation_digest(made) + "\n", "")


def test_export_makes_what_is_asked_for(call, tmp_path):
    words = [
        "--csv",
        "t.csv",
        "--heatmap",
        "h.tif",
        "--geojson",
        "o.geojson",
        "--above",
        "share:0.5",
        "--sheet",
        "s.png",
    ]
    assert call("export", "a.explained.h5", *words, "--overlay", "o.png") == (0, "", "")
    assert {"t.csv", "h.tif", "o.geojson", "s.png", "o.png"} < {path.name for path in tmp_path.iterdir()}
    with (tmp_path / "t.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 6
    assert call("export", "a.explained.h5", "--csv", "t.csv")[0] == 73


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("a.explained.h5", "--clam", "c"), "--clam goes with a result"),
        (("a.explained.h5", "--geojson", "g", "--merge"), "--merge goes with a result"),
        (("a.explained.h5", "--csv", "t.csv", "--levels", "0"), "--levels goes with"),
        (("a.explained.h5", "--tiles", "t"), "give it with --slide"),
        (("a.explained.h5", "--geojson", "g", "--above", "most"), "--above most: expected"),
        (("a.h5", "--sheet", "s.png"), "--sheet goes with explained tiles"),
        (("a.h5", "--geojson", "g", "--above", "share:0.5"), "--above goes with explained tiles"),
        (("a.h5", "--csv", "t.csv", "--explained", "a.explained.h5"), "--explained goes with --report"),
        (("a.h5",), "give at least one of"),
    ],
)
def test_what_does_not_go_together_is_usage(call, tmp_path, words, part):
    before = sorted(path.name for path in tmp_path.iterdir())
    code, out, err = call("export", *words)
    assert (code, out) == (64, "")
    assert part in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
