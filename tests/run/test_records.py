"""What a run of many slides leaves beside its results: true at every moment, printable, and never in the run's way."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyramidai_mpi.base.errors import ExitCode, OutputExistsError, StorageError, UsageError
from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.run.assemble import RANK_DTYPE
from pyramidai_mpi.run.records import CohortRecords
from pyramidai_mpi.run.report import RunReport, SlideOutcome
from pyramidai_mpi.run.summary_table import SummaryTable
from pyramidai_mpi.store.results.summary import SlideAccount
from tests.packages import write_package

ACCOUNT = SlideAccount((40, 10, 3), 7, 0, 1.25, None, "ab" * 32, "cd" * 32, 12.5, 0.25)


@pytest.fixture
def each(tmp_path: Path) -> list[RunSettings]:
    (tmp_path / "results").mkdir()
    names = ("a", "b", "c\n\x1b[2J")
    return [RunSettings.of(Path(f"{n}.tif"), tmp_path / "model", tmp_path / "results" / f"{n}.h5") for n in names]


@pytest.fixture
def records(each: list[RunSettings], tmp_path: Path) -> CohortRecords:
    records = CohortRecords(tmp_path / "results", each)
    records.begin(read_package(write_package(tmp_path / "model")), np.zeros(4, RANK_DTYPE))
    return records


def rows_in(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def metadata_in(folder: Path) -> dict[str, object]:
    (path,) = folder.glob("run_metadata_*.json")
    return json.loads(path.read_text())


def test_the_table_tells_what_has_ended_and_what_has_not(records, each, tmp_path):
    folder = tmp_path / "results"
    failed = SlideOutcome(each[2], ExitCode.BAD_INPUT, "c\n\x1b[2J.tif: not a\nslide")
    records.slide_ended(failed)
    assert [row["status"] for row in rows_in(folder)] == ["unfinished", "unfinished", "failed"]
    unreadable = replace(ACCOUNT, unreadable=4)
    records.slide_ended(SlideOutcome(each[0], ExitCode.TILES_FAILED, "a.tif: 53 tiles", unreadable))
    skipped = SlideOutcome(each[1], ExitCode.OK, "there", replace(ACCOUNT, balance=1.5), was_finished=True)
    records.slide_ended(skipped)
    first, second, third = rows_in(folder)
    assert first == {
        "slide": "a.tif",
        "output": "a.h5",
        "status": "tiles_unreadable",
        "reason": "4 unreadable tiles, listed in the result",
        "tiles": "53",
        "positives": "7",
        "unreadable": "4",
        "seconds": "1.250",
        "busiest_over_ideal": "",
        "digest": "ab" * 32,
        "tiles_level_0": "40",
        "tiles_level_1": "10",
        "tiles_level_2": "3",
        "tissue_mm2": "12.5000",
        "positive_mm2": "0.2500",
        "warning": "",
    }
    assert (second["status"], second["busiest_over_ideal"]) == ("skipped", "1.5000")
    assert third["reason"] == r"c\n\x1b[2J.tif: not a\nslide"
    assert all(line.isprintable() for line in (folder / "summary.csv").read_text().splitlines())
    assert len((folder / "summary.csv").read_text().splitlines()) == 4


def test_a_slide_that_is_called_as_a_formula_is_none_in_the_table(tmp_path):
    name = "=cmd|' calc'!A0.tif"
    one = RunSettings.of(Path(name), tmp_path / "model", Path("=1.h5"))
    table = SummaryTable(tmp_path / "summary.csv", [one], 3)
    table.put(SlideOutcome(one, ExitCode.BAD_INPUT, f"{name}: not a slide"))
    table.write()
    (row,) = rows_in(tmp_path)
    assert (row["slide"], row["output"], row["reason"]) == (f"'{name}", "'=1.h5", f"'{name}: not a slide")


def test_metadata_is_there_from_the_start_and_complete_at_the_end(records, each, tmp_path):
    folder = tmp_path / "results"
    begun = metadata_in(folder)
    assert (begun["ended"], begun["exit_code"], begun["n_ranks"]) == (None, None, 4)
    records.slide_ended(SlideOutcome(each[0], ExitCode.OK, "done", ACCOUNT))
    records.end(75)
    stopped = metadata_in(folder)
    assert stopped["exit_code"] == 75
    assert [one["status"] for one in stopped["slides"]] == ["complete", "unfinished", "unfinished"]
    assert [one["quickhash"] for one in stopped["slides"]] == ["cd" * 32, None, None]
    records.end(4, RunReport((), 1.0, 1.25))
    assert metadata_in(folder)["busiest_over_ideal"] == 1.25
    assert records.error is None


def test_starts_of_the_same_second_have_a_file_each(records, each, tmp_path):
    others = [CohortRecords(tmp_path / "results", each) for _ in range(3)]
    for one in others:
        one._started = records._started
        one.begin(read_package(tmp_path / "model"), np.zeros(1, RANK_DTYPE))
    assert len(list((tmp_path / "results").glob("run_metadata_*.json"))) == 4


def test_a_folder_that_is_gone_stops_nothing_and_is_told_at_the_end(records, each, tmp_path):
    for path in (tmp_path / "results").iterdir():
        path.unlink()
    (tmp_path / "results").rmdir()
    records.slide_ended(SlideOutcome(each[0], ExitCode.OK, "done", ACCOUNT))
    records.end(0)
    assert isinstance(records.error, StorageError)
    assert "results" in str(records.error)


def test_a_table_is_replaced_only_when_it_is_ours_or_may_be_and_is_not_the_list_of_slides(records, each, tmp_path):
    from pyramidai_mpi.run.summary_table import check_summary

    ours, other = tmp_path / "results" / "summary.csv", tmp_path / "summary.csv"
    records.slide_ended(SlideOutcome(each[0], ExitCode.OK, "done", ACCOUNT))
    check_summary(ours, overwrite=False, inputs=[])
    check_summary(other, overwrite=False, inputs=[])
    other.write_text("wsi,mpp\n")
    with pytest.raises(OutputExistsError):
        check_summary(other, overwrite=False, inputs=[])
    check_summary(other, overwrite=True, inputs=[])
    with pytest.raises(UsageError):
        check_summary(other, overwrite=True, inputs=[other])
