"""A model with an aggregator predicts slides: what numpy finds from the stored features, whoever computed it."""

from __future__ import annotations

import csv
import signal
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

import pyramidai_mpi
from pyramidai_mpi.models.aggregator_entry import AggregatorMethod, SlideTask
from pyramidai_mpi.testing.launch import kill, started
from tests.aggregators import CLASSES, aggregated, aggregator_network, write_slide_package
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.end_to_end.test_damage import tissue_slide, wipe_tile
from tests.faults.test_resume import SLOWLY, has_done_something
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides with a damaged spot, whole, and of glass alone; a model for each task; the damaged one's on one rank."""
    folder = tmp_path_factory.mktemp("slide-prediction")
    wipe_tile(tissue_slide(folder / "damaged.tif"), 5)
    tissue_slide(folder / "whole.tif")
    tissue_slide(folder / "glass.tif", tissue=False)
    for task in SlideTask:
        write_slide_package(folder / task, task)
    done = pyramidai(folder / "damaged.tif", "--model", folder / "binary", "-o", folder / "one.h5")
    assert done.returncode == 3
    assert "slide: tumor 0.8" in done.stderr
    return folder


def prediction_digest(path: Path) -> str:
    with h5py.File(path) as file:
        return str(file["slide_prediction"].attrs["digest"])


def assert_same(found: Path, expected: Path) -> None:
    assert digest_of(found) == digest_of(expected)
    assert prediction_digest(found) == prediction_digest(expected)


@pytest.mark.parametrize("task", SlideTask)
def test_it_is_what_numpy_finds_from_the_stored_features(task: SlideTask, folder: Path, tmp_path: Path) -> None:
    path = folder / "one.h5"
    if task is not SlideTask.BINARY:
        path = tmp_path / "out.h5"
        done = pyramidai(folder / "damaged.tif", "--model", folder / task, "-o", path)
        assert done.returncode == 3
    with h5py.File(path) as file:
        level, group = file["levels/0"], file["slide_prediction"]
        readable = level["decision"][...] != 2
        assert (readable.sum(), len(readable)) == (180, 196)  # the damaged ones are left out
        expected = aggregated(level["features"][...][readable], task)
        np.testing.assert_allclose(group["prediction"][...], expected["prediction"], rtol=1e-5)
        np.testing.assert_allclose(group["logits"][...], expected["logits"], rtol=1e-5)
        for name in ("attention", "contribution"):
            found = level[name][...]
            np.testing.assert_allclose(found[readable], expected[name], rtol=2e-4, atol=1e-8)
            assert np.isnan(found[~readable]).all()
        assert group.attrs["task"] == task
        assert tuple(group.attrs["classes"]) == CLASSES[task]
        assert group.attrs["n_tiles"] == 180


@pytest.mark.mpi
def test_it_does_not_depend_on_ranks_cohort_or_parts(folder: Path, tmp_path: Path) -> None:
    for ranks in (2, 3, 5):
        output = tmp_path / f"on{ranks}.h5"
        command = [folder / "damaged.tif", "--model", folder / "binary", "-o", output, "--seed", str(ranks)]
        assert pyramidai(*command, ranks=ranks).returncode == 3
        assert_same(output, folder / "one.h5")
    slides = [folder / f"{stem}.tif" for stem in ("damaged", "whole", "glass")]
    done = pyramidai(*slides, "--model", folder / "binary", "--results-dir", tmp_path / "all", ranks=3)
    assert done.returncode == 3
    assert_same(tmp_path / "all" / "damaged.h5", folder / "one.h5")
    with (tmp_path / "all" / "summary.csv").open() as file:
        rows = {row["slide"]: row for row in csv.DictReader(file)}
    with h5py.File(folder / "one.h5") as file:
        negative, positive = file["slide_prediction/prediction"][...].tolist()
    assert np.float32(rows["damaged.tif"]["prediction_tumor"]) == np.float32(positive)
    assert np.float32(rows["damaged.tif"]["prediction_normal"]) == np.float32(negative)
    assert rows["glass.tif"]["prediction_tumor"] == ""
    assert rows["glass.tif"]["warning"]
    parts = [tmp_path / f"part.part-{n}-of-2.h5" for n in (1, 2)]
    for n in (1, 2):
        part = ["--part", f"{n}/2", "-o", tmp_path / "part.h5"]
        assert pyramidai(folder / "damaged.tif", "--model", folder / "binary", *part).returncode == 3
    refused = pyramidai("merge", *parts)
    assert refused.returncode == 64
    assert "name it with --model" in refused.stderr
    refused = pyramidai("merge", *parts, "--model", folder / "share")
    assert refused.returncode == 65
    assert "another aggregator" in refused.stderr
    assert pyramidai("merge", *parts, "--model", folder / "binary").returncode == 3
    assert_same(tmp_path / "part.h5", folder / "one.h5")


def test_a_slide_without_tissue_has_none_and_that_is_said(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "glass.h5"
    done = pyramidai(folder / "glass.tif", "--model", folder / "classes", "-o", output)
    assert done.returncode == 0
    assert "no prediction" in done.stderr
    shown = pyramidai("info", output)
    assert "prediction no prediction, as no tile of level 0 was read" in shown.stdout
    result = pyramidai_mpi.open_result(output)
    assert result.prediction is not None
    assert result.prediction.n_tiles == 0
    assert np.isnan(result.prediction.prediction).all()
    assert result.levels[0].attention is not None
    assert result.levels[0].attention.shape == (0, 2)


def test_it_is_open_to_python_and_told_by_info(folder: Path) -> None:
    result = pyramidai_mpi.open_result(folder / "one.h5")
    assert result.prediction is not None
    assert (result.prediction.task, result.prediction.method) == ("binary", "abmil")
    with h5py.File(folder / "one.h5") as file:
        np.testing.assert_array_equal(result.levels[0].contribution, file["levels/0/contribution"][...])
        np.testing.assert_array_equal(result.levels[0].attention, file["levels/0/attention"][...])
        positive = file["slide_prediction/prediction"][1]
    shown = pyramidai("info", folder / "one.h5").stdout
    assert f"prediction tumor {positive:.4g} (binary, abmil of 180 tiles)" in shown
    assert "aggregator abmil, task binary: normal, tumor" in pyramidai("info", folder / "binary").stdout


def test_results_of_models_of_tiles_alone_hold_nothing_of_it(folder: Path, tmp_path: Path) -> None:
    model = write_package(tmp_path / "tiles", n_levels=1, with_features=True)
    output = tmp_path / "tiles.h5"
    assert pyramidai(folder / "whole.tif", "--model", model, "-o", output).returncode == 0
    with h5py.File(output) as file:
        assert "slide_prediction" not in file
        assert sorted(file["levels/0"]) == ["coords", "decision", "index", "parent", "probability"]
    assert pyramidai_mpi.open_result(output).prediction is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aggregator": aggregator_network(leave_out="attention")}, "aggregator.onnx: has no output 'attention'"),
        ({"aggregator": aggregator_network(n_features=4)}, "aggregator.onnx: input 'features' has shape (any, 4)"),
        ({"aggregator": aggregator_network(SlideTask.SHARE)}, "aggregator.onnx: prediction has shape (1,)"),
        ({"aggregator": aggregator_network(gain=np.nan)}, "aggregator.onnx: prediction is not finite"),
        ({"aggregator": b"no graph"}, "aggregator.onnx: not an ONNX file"),
        ({"with_features": False}, "aggregator.onnx: has no features to aggregate"),
        ({"n_levels": 2}, "has an aggregator and 2 levels, expected one"),
    ],
    ids=["output missing", "other features", "other classes", "not finite", "no graph", "no features", "two levels"],
)
def test_a_wrong_aggregator_is_one_line_before_the_run(changes: dict, words: str, folder: Path, tmp_path: Path) -> None:
    model = write_slide_package(tmp_path / "model", **changes)
    done = pyramidai(folder / "whole.tif", "--model", model, "-o", tmp_path / "out.h5")
    assert done.returncode == 65
    (line,) = [line for line in done.stderr.splitlines() if "onnx" in line or "levels" in line]
    assert words in line
    assert not (tmp_path / "out.h5").exists()


def test_overlapping_windows_are_refused(folder: Path, tmp_path: Path) -> None:
    done = pyramidai(folder / "whole.tif", "--model", folder / "binary", "--stride", "16", "-o", tmp_path / "out.h5")
    assert done.returncode == 64
    assert "predicts slides from tiles side by side" in done.stderr


def test_a_slide_of_more_tiles_than_fit_in_memory_as_pairs_is_refused_before_the_work(
    folder: Path, tmp_path: Path
) -> None:
    """4 GiB are 32768 tiles squared; 28000 numbers a pair let 195 tiles through, and the slide has 196."""
    many, few = (
        write_slide_package(
            tmp_path / str(pairs), method=AggregatorMethod.TRANSFORMER, aggregator=aggregator_network(pairs=pairs)
        )
        for pairs in (28000, 28)
    )
    done = pyramidai(folder / "whole.tif", "--model", many, "-o", tmp_path / "out.h5")
    assert done.returncode == 65
    assert "has 196 tiles with tissue, more than the 195 that" in done.stderr
    assert not (tmp_path / "out.h5").exists()
    assert pyramidai(folder / "damaged.tif", "--model", few, "-o", tmp_path / "few.h5").returncode == 3
    with h5py.File(tmp_path / "few.h5") as file, h5py.File(folder / "one.h5") as plain:
        expected = plain["slide_prediction/prediction"][...]
        np.testing.assert_allclose(file["slide_prediction/prediction"][...], expected, rtol=1e-6)


def test_a_changed_prediction_does_not_pass_for_the_written_one(folder: Path, tmp_path: Path) -> None:
    from pyramidai_mpi.base.errors import InputError
    from pyramidai_mpi.store.results.reader import read_digest
    from pyramidai_mpi.store.results.seal import rows_on_disk, seal_file

    def changed(name: str, change: str) -> str:
        path = tmp_path / name
        path.write_bytes((folder / "one.h5").read_bytes())
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            if change == "number":
                file["slide_prediction/prediction"][...] = [0.1, 0.9]
            elif change == "tiles":
                file["slide_prediction"].attrs["n_tiles"] = 3
            else:
                table = file["levels/0/contribution"][...]
                table[100] += 1
                file["levels/0/contribution"][...] = table
            left_out = rows_on_disk(file["levels/0/features"])
        with path.open("r+b") as raw:  # the old trailer goes
            raw.truncate(path.stat().st_size)
        seal_file(path, left_out)
        with pytest.raises(InputError) as caught:
            read_digest(path)
        return str(caught.value)

    assert "its prediction gives the digest" in changed("number.h5", "number")
    assert "is of 3 tiles, and 180 were read" in changed("tiles.h5", "tiles")
    assert "do not sum to the logits" in changed("sum.h5", "sum")


@pytest.mark.mpi
def test_a_killed_run_that_goes_on_predicts_the_same(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    command = [str(folder / "damaged.tif"), "--model", str(folder / "binary"), "-o", str(output), "--batch-size", "2"]
    with started(3, [SLOWLY, "0.02", *command]) as job:
        assert job.wait_until(lambda: has_done_something(output)), job.output()
        kill(job.ranks()[0], signal.SIGKILL)
        assert job.wait() != 0
    assert not output.exists()
    done = pyramidai(*command, "--resume", ranks=2)
    assert done.returncode == 3
    assert "going on from the journal" in done.stderr
    assert_same(output, folder / "one.h5")
