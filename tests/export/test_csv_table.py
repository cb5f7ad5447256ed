"""The CSV says what the result says, in WSInfer's columns."""

from __future__ import annotations

import csv
from dataclasses import replace

import h5py
import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, OutputExistsError, UsageError
from pyramidai_mpi.export.csv_table import write_csv
from pyramidai_mpi.store.results.seal import seal_file
from tests.results import result_of, write_file

# what wsinfer/write_geojson.py of WSInfer looks for in its CSV: these four, and columns that begin with prob_
WSINFER = ["minx", "miny", "width", "height", "prob_normal", "prob_tumor"]


@pytest.fixture
def path(tmp_path):
    return write_file(tmp_path / "out.h5", result_of())


@pytest.fixture
def rows(path, tmp_path):
    write_csv(path, tmp_path / "tiles.csv")
    with (tmp_path / "tiles.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_columns_are_wsinfers_then_ours(rows):
    assert list(rows[0]) == [*WSINFER, "level", "col", "row", "decision", "parent", "outcome"]


def test_every_tile_is_there_once_with_all_its_numbers(rows, path):
    with h5py.File(path) as file:
        for n, group in file["levels"].items():
            own = [row for row in rows if row["level"] == n]
            assert np.array_equal([[int(row["minx"]), int(row["miny"])] for row in own], group["coords"][...])
            assert np.array_equal([[int(row["col"]), int(row["row"])] for row in own], group["index"][...])
            assert [int(row["decision"]) for row in own] == group["decision"][...].tolist()
            assert [int(row["parent"]) for row in own] == group["parent"][...].tolist()
            assert {row["width"] for row in own} == {row["height"] for row in own} == {str(64 * 2 ** int(n))}
            probability = np.array([[float(row[name] or "nan") for name in WSINFER[4:]] for row in own])
            assert np.array_equal(probability.astype(np.float32), group["probability"][...], equal_nan=True)
        assert len(rows) == sum(len(group["index"]) for group in file["levels"].values())


def test_the_outcome_says_in_words_what_was_decided(rows):
    words = {("0", "0"): "negative", ("0", "1"): "positive"}
    words |= {(level, decision): "unreadable" for level in "012" for decision in "2"}
    words |= {(level, "0"): "stopped" for level in "12"} | {(level, "1"): "zoomed into" for level in "12"}
    assert {(row["level"], row["decision"]): row["outcome"] for row in rows} == words
    assert all(row["outcome"] == words[row["level"], row["decision"]] for row in rows)


@pytest.mark.parametrize("levels", [(0,), (2,), (0, 2)])
def test_of_some_levels_the_lines_are_those_of_the_whole_table(path, rows, tmp_path, levels):
    write_csv(path, tmp_path / "some.csv", levels=levels)
    with (tmp_path / "some.csv").open(newline="", encoding="utf-8") as file:
        some = list(csv.DictReader(file))
    assert some == [row for row in rows if int(row["level"]) in levels]
    assert {row["level"] for row in some} == {str(level) for level in levels}


def test_a_level_that_is_not_there_is_named_and_nothing_written(path, tmp_path):
    with pytest.raises(UsageError, match=r"slide\.tif has levels 0 to 2, not 5"):
        write_csv(path, tmp_path / "some.csv", levels=(5,))
    assert [each.name for each in tmp_path.iterdir()] == ["out.h5"]


def test_an_unreadable_tile_has_empty_probabilities(rows):
    for row in rows:
        assert (row["prob_tumor"] == "") == (row["prob_normal"] == "") == (row["decision"] == "2")
    assert any(row["decision"] == "2" for row in rows)


def test_a_class_with_a_comma_in_its_name_is_one_column(tmp_path):
    made = result_of()
    model = replace(made.model, classes=("normal, or 50% so", "Tumör"), positive_class="Tumör")
    write_csv(write_file(tmp_path / "out.h5", replace(made, model=model)), tmp_path / "tiles.csv")
    with (tmp_path / "tiles.csv").open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert list(first)[4:6] == ["prob_normal, or 50% so", "prob_Tumör"]
    assert None not in first


def test_a_result_without_tiles_gives_the_title_alone(tmp_path):
    path = write_file(tmp_path / "out.h5", result_of(np.zeros((10, 12), bool)))
    write_csv(path, tmp_path / "tiles.csv")
    assert (tmp_path / "tiles.csv").read_text().count("\n") == 1


def test_an_existing_file_is_kept_unless_told_otherwise(path, tmp_path):
    target = tmp_path / "tiles.csv"
    target.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"tiles\.csv"):
        write_csv(path, target)
    assert target.read_text() == "mine"
    write_csv(path, target, overwrite=True)
    assert target.read_text().startswith("minx")


def test_damage_found_on_the_way_leaves_nothing_behind(path, tmp_path):
    with h5py.File(path, "r+") as file:
        del file["levels/2/parent"]
    seal_file(path, [])  # sealed as it is, so that it is the reading that fails
    with pytest.raises(InputError, match=r"out\.h5: .*damaged"):
        write_csv(path, tmp_path / "tiles.csv")
    assert [each.name for each in tmp_path.iterdir()] == ["out.h5"]
