"""``pyramidai tune --band``: from runs of all windows to a package that runs in steps; what it says when it cannot."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import yaml
from scipy import ndimage

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.base.types import WindowState
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.store.results.dense import read_dense_map
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import iter_cells, read_execution
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.truth.coverage import UNIT
from pyramidai_mpi.truth.truth import read_truth
from pyramidai_mpi.tuning.band_play import try_band
from pyramidai_mpi.tuning.full_maps import read_full_maps
from tests.end_to_end.conftest import pyramidai

if TYPE_CHECKING:
    from pathlib import Path

SIDE, STRIDE = 1024, 32


class Clinic(NamedTuple):
    """Slides with their truth beside them, and the results of all their windows."""

    slides: list[Path]
    results: list[Path]

    @property
    def truth(self) -> Path:
        return self.slides[0].parent

    def run(self, folder: Path, *options: str) -> Path:
        assert pyramidai(*self.slides, "--results-dir", folder, *options).returncode == 0
        return folder


@pytest.fixture(scope="module")
def clinic(tmp_path_factory) -> Clinic:
    folder = tmp_path_factory.mktemp("slides")
    slides = [folder / f"case{seed}.tif" for seed in (1, 2, 3)]
    for seed, path in enumerate(slides, start=1):
        write_slide(SynthSpec(SIDE, SIDE, seed=seed, tumor_share=0.3), path)
    made = Clinic(slides, [])
    full = made.run(tmp_path_factory.mktemp("full"), "--stride", str(STRIDE), "--mode", "reference")
    return Clinic(slides, sorted(full.glob("*.h5")))


def tune(*words) -> int:
    return run_command_line(["tune", "--band", *map(str, words)])


def test_the_band_chosen_is_written_with_how_it_came_about(clinic, tmp_path, capsys):
    folder = tmp_path / "tuned"
    words = ("--truth", clinic.truth, "--objective", "0.95", "--strides", "32,64,128", "--strides", "32,128")
    assert tune(*clinic.results, *words, "--model", "small", "-o", folder) == ExitCode.OK
    package, shipped = load_package(folder), load_package(default_model())
    assert package.band is not None
    assert package.band_strides in {(32, 64, 128), (32, 128)}
    assert package.thresholds({}) == shipped.thresholds({})
    maps = read_full_maps(clinic.results, clinic.truth)
    trial = try_band(maps.slides, package.band_strides, package.band)
    assert trial.iou >= 0.95 - 1e-9
    assert trial.n_lesions_lost == 0
    block = yaml.safe_load((folder / "model.yaml").read_text())["tuning"]["band"]
    assert block["training_iou"] == pytest.approx(trial.iou, abs=1e-6)
    assert block["training_windows_share"] == pytest.approx(trial.share, abs=1e-6)
    assert [slide["name"] for slide in block["slides"]] == [slide.name for slide in clinic.slides]
    said = capsys.readouterr().out
    assert f"chosen: low {package.band.low:g}, high {package.band.high:g}, step {package.band.step:g}" in said
    assert f"IoU {trial.iou:.4f} (lowest {trial.worst_iou:.4f})" in said
    assert run_command_line(["info", str(folder)]) == ExitCode.OK
    assert "band over strides, mean IoU with the full maps of at least 0.95 wanted" in capsys.readouterr().out


@pytest.mark.mpi
def test_a_run_with_the_package_looks_at_the_windows_that_were_foretold(clinic, tmp_path):
    tuned = tmp_path / "tuned"
    assert tune(*clinic.results, "--objective", "0.95", "--model", "small", "-o", tuned) == ExitCode.OK
    package = load_package(tuned)
    how = ("--stride", str(STRIDE), "--stride-mode", "adaptive", "--mode", "reference", "--model", str(tuned))
    clinic.run(tmp_path / "steps", *how)
    maps = read_full_maps(clinic.results, None)
    trial = try_band(maps.slides, package.band_strides, package.band)
    for played, one, full in zip(trial.slides, maps.slides, clinic.results, strict=True):
        with open_result(tmp_path / "steps" / full.name) as file:
            steps = read_dense_map(file)
            levels = range(sum(name.isdigit() for name in file["levels"]))
            cells = [state for n in levels for _, _, state in iter_cells(file, n)]
            band = json.loads(str(read_execution(file).attributes["band"]))
        assert tuple(band) == (package.band.low, package.band.high, package.band.step)
        n_looked = sum(int((state == WindowState.LOOKED).sum()) for state in cells)
        # but for the tissue's rim, where the squares that hold tissue are others in either run
        assert n_looked == pytest.approx(played.n_windows, rel=0.05)
        both = (one.map.stride > 0) & (steps.stride > 0)
        positive, expected = (each.score[both] >= each.threshold for each in (steps, one.map))
        assert (positive & expected).sum() / (positive | expected).sum() == pytest.approx(played.iou, abs=0.03)


def test_lesions_are_what_hangs_together_in_the_truth(clinic):
    maps = read_full_maps(clinic.results, clinic.truth)
    assert maps.has_truth
    for path, slide in zip(clinic.slides, maps.slides, strict=True):
        covered = read_truth(clinic.truth, path.name, (SIDE, SIDE)).coverage((SIDE, SIDE), 1.0) * 2 > UNIT
        # by pixel; joined where they touch one cell, which pixels closer than a cell do
        cells = covered.reshape(SIDE // STRIDE, STRIDE, SIDE // STRIDE, STRIDE).any(axis=(1, 3))
        n_lesions = ndimage.label(cells, np.ones((3, 3)))[1]
        assert (0 if slide.lesion is None else int(slide.lesion.max())) == n_lesions
        if slide.lesion is not None:
            assert ((slide.lesion > 0) >= cells).all()


def test_other_slides_are_measured_and_may_not_be_among_those_chosen_on(clinic, capsys):
    first, *others = clinic.results
    assert tune(*others, "--test", first) == ExitCode.OK
    said = capsys.readouterr().out
    assert "test: 1 slide of model small" in said
    assert "  test slides: 1/" in said
    assert tune(*others, "--test", others[0]) == ExitCode.BAD_INPUT
    assert "there twice, in the training slides too" in capsys.readouterr().err


def test_a_promise_says_what_it_stands_on(clinic, tmp_path, capsys):
    assert tune(*clinic.results, "--guarantee", "0.4", "--model", "small", "-o", tmp_path / "safe") == ExitCode.OK
    said = capsys.readouterr().out
    assert "expected share of positive cells lost at most 0.4 on a new slide" in said
    assert "path drawn on 1 slide, calibrated on 2 others" in said
    block = yaml.safe_load((tmp_path / "safe" / "model.yaml").read_text())["tuning"]["band"]
    assert block["guaranteed_loss"] == 0.4
    assert len(block["calibration_slides"]) == 2
    assert tune(*clinic.results, "--guarantee", "0.1") == ExitCode.BAD_INPUT
    assert "takes at least 9 calibration slides" in capsys.readouterr().err


def test_tuned_thresholds_stay_with_a_band_and_a_band_with_thresholds(clinic, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(default_model(), source)
    document = yaml.safe_load((source / "model.yaml").read_text()) | {"tuning": {"strategy": "optimal"}}
    (source / "model.yaml").write_text(yaml.safe_dump(document))
    assert tune(*clinic.results, "--model", source, "-o", tmp_path / "tuned") == ExitCode.OK
    block = yaml.safe_load((tmp_path / "tuned" / "model.yaml").read_text())["tuning"]
    assert block["strategy"] == "optimal"
    assert set(block) == {"strategy", "band"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--strides", "32,48"), "each a whole multiple"),
        (("--strides", "32;64"), "joined by commas"),
        (("--strides", "16,32"), "stride 32, but strides begin with 16"),
        (("--strategy", "empirical"), "--strategy is about thresholds"),
        (("--from-below",), "--from-below is about thresholds"),
        (("--plots", "figures"), "--plots is about thresholds"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(clinic, capsys, words, said):
    assert tune(*clinic.results, *words) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_thresholds_need_a_truth_and_know_no_strides(clinic, capsys):
    results = [str(path) for path in clinic.results]
    assert run_command_line(["tune", *results]) == ExitCode.USAGE
    assert "--truth is needed" in capsys.readouterr().err
    assert run_command_line(["tune", *results, "--truth", str(clinic.truth), "--strides", "32,64"]) == ExitCode.USAGE
    assert "add --band" in capsys.readouterr().err


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--stride", "64", "--stride-mode", "adaptive", "--mode", "reference"), "windows at several strides"),
        (("--stride", "112"), "only where the pyramid led"),
        (("--mode", "reference"), "windows side by side"),
    ],
)
def test_results_that_do_not_tell_are_refused(clinic, tmp_path, capsys, options, said):
    made = tmp_path / "one.h5"
    assert pyramidai(clinic.slides[0], "-o", made, *options).returncode == 0
    assert tune(made) == ExitCode.BAD_INPUT
    assert said in (error := capsys.readouterr().err)
    assert "--mode reference" in error


@pytest.mark.mpi
def test_results_of_several_strides_are_refused(clinic, tmp_path, capsys):
    made = tmp_path / "one.h5"
    assert pyramidai(clinic.slides[0], "-o", made, "--stride", "112", "--mode", "reference").returncode == 0
    assert tune(clinic.results[1], made) == ExitCode.BAD_INPUT
    assert "has stride 112, windows of 224 px and threshold 0.55, but 32, 224 and 0.55" in capsys.readouterr().err
