"""A run that is complete and has looked at nothing says so, wherever its result is met."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

import pyramidai_mpi
from pyramidai_mpi.base.errors import InputError
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.end_to_end.test_damage import SIDE, tissue_slide, wipe_tile
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

SAID = {
    "glass": "no tissue found, so nothing was looked at",
    "stops": "nothing was looked at at level 0: no tile was zoomed into of the",
    "unreadable": "tiles could be read, so nothing was looked at",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slides, a model that zooms everywhere and one that never does."""
    folder = tmp_path_factory.mktemp("nothing")
    tissue_slide(folder / "glass.tif", tissue=False)
    tissue_slide(folder / "stops.tif")
    tissue_slide(folder / "unreadable.tif")
    for number in range(16):
        wipe_tile(folder / "unreadable.tif", number)
    write_package(folder / "zooms", side=SIDE, thresholds=(0.5, 0.0, 0.0))
    write_package(folder / "never", side=SIDE, thresholds=(0.5, 1.0, 1.0))
    return folder


@pytest.mark.parametrize("kind", SAID)
def test_it_is_said_in_spite_of_q_in_info_in_the_report_and_in_python(folder: Path, tmp_path: Path, kind: str) -> None:
    words = [folder / f"{kind}.tif", "--model", folder / ("never" if kind == "stops" else "zooms")]
    out = tmp_path / "out.h5"
    done = pyramidai(*words, "-o", out, "-q")
    assert done.returncode == (65 if kind == "unreadable" else 0)
    assert SAID[kind] in done.stderr
    assert SAID[kind] in pyramidai("info", out).stdout
    assert SAID[kind] in pyramidai_mpi.open_result(out).warning
    assert pyramidai("export", out, "--report", tmp_path / "report.html").returncode == 0
    assert SAID[kind] in (tmp_path / "report.html").read_text()
    again = pyramidai(*words, "-o", out, "-q", "--resume")
    assert again.returncode == done.returncode
    assert SAID[kind] in again.stderr


def test_what_was_looked_at_says_nothing(folder: Path, tmp_path: Path) -> None:
    done = pyramidai(folder / "stops.tif", "--model", folder / "zooms", "-o", tmp_path / "out.h5", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert "warning" not in pyramidai("info", tmp_path / "out.h5").stdout
    assert pyramidai_mpi.open_result(tmp_path / "out.h5").warning == ""


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [None, 3])
def test_of_several_slides_the_table_says_it_and_the_unreadable_one_has_failed(
    folder: Path, tmp_path: Path, ranks: int | None
) -> None:
    words = [*(folder / f"{kind}.tif" for kind in SAID), "--model", folder / "never", "--results-dir", tmp_path, "-q"]
    for _ in range(2):  # a second start does not take it for finished
        done = pyramidai(*words, ranks=ranks)
        assert done.returncode == 4
        with (tmp_path / "summary.csv").open(newline="") as file:
            rows = {row["slide"].rpartition("/")[2].removesuffix(".tif"): row for row in csv.DictReader(file)}
        for kind, said in SAID.items():
            assert said in rows[kind]["warning"]
            assert said in done.stderr
        assert rows["unreadable"]["status"] == "failed"
        assert rows["unreadable"]["unreadable"] == rows["unreadable"]["tiles"] != "0"
        assert "remove it, and run again" in rows["unreadable"]["reason"]
    tissue_slide(tmp_path / "unreadable.tif")
    alone = pyramidai(tmp_path / "unreadable.tif", "--model", folder / "zooms", "-o", tmp_path / "sound.h5")
    assert alone.returncode == 0
    assert digest_of(tmp_path / "sound.h5") != digest_of(tmp_path / "unreadable.h5")


def test_in_python_a_slide_that_cannot_be_read_is_bad_input(folder: Path) -> None:
    with pytest.raises(InputError, match="could be read, so nothing was looked at"):
        pyramidai_mpi.analyse(folder / "unreadable.tif", folder / "zooms")
