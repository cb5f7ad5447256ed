"""What is there already is taken for this run's only where all that decides the result is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.end_to_end.conftest import Finished, pyramidai
from tests.end_to_end.test_damage import tissue_slide
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

OTHERS = {"numpy": "99.1"}


def model_of(folder: Path, **changes: Any) -> Path:
    return write_package(folder / "model", thresholds=(0.5, 0.0, 0.0), yaml_changes=changes)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tissue_slide(tmp_path_factory.mktemp("slide") / "slide.tif")


@pytest.fixture
def words(slide: Path, tmp_path: Path) -> list[str | Path]:
    """Arguments of a run by a model that may be changed."""
    return [slide, "--model", model_of(tmp_path), "-o", tmp_path / "out.h5"]


def with_versions(versions: dict[str, str | None], disk: str, *arguments: str | Path) -> Finished:
    """As `pyramidai`, see `run_with_versions`."""
    script = REPOSITORY / "tests" / "end_to_end" / "run_with_versions.py"
    done = subprocess.run(
        [sys.executable, script, json.dumps(versions), disk, *arguments],
        env=dict(os.environ) | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print(done.stdout, done.stderr)
    return Finished(done.returncode, done.stdout, done.stderr)


def assert_refused(done: Finished, *named: str, code: int = 65) -> None:
    assert done.returncode == code
    line = next(line for line in done.stderr.splitlines() if " run with other " in line)
    for name in named:
        assert name in line.split(" run with other ")[1]


def test_a_result_in_float32_is_none_of_a_run_in_bfloat16(words: list[str | Path]) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is an extra: pip install 'pyramidai-mpi[openvino]'")
    words += ["--backend", "openvino"]
    assert pyramidai(*words).returncode == 0
    assert pyramidai(*words, "--resume").returncode == 0
    assert_refused(pyramidai(*words, "--precision", "bfloat16", "--resume"), "precision (float32, now bfloat16)")


def test_a_result_of_another_backend_is_none_of_this_run(words: list[str | Path]) -> None:
    assert pyramidai(*words).returncode == 0
    for options in ([], ["--accept-mixed"]):
        done = pyramidai(*words, "--resume", "--backend", "openvino", *options)
        assert_refused(done, "backend (onnxruntime, now openvino)")


def test_where_the_backend_is_left_to_the_program_results_of_either_are_finished(
    words: list[str | Path], slide: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is an extra: pip install 'pyramidai-mpi[openvino]'")
    second = tmp_path / "second.tif"
    second.write_bytes(slide.read_bytes())
    for path, backend in ((slide, "onnxruntime"), (second, "openvino")):
        words = [path, "--model", tmp_path / "model", "-o", tmp_path / f"{path.stem}.h5", "--backend"]
        assert pyramidai(*words, backend).returncode == 0
        assert pyramidai(*words, "auto", "--resume").returncode == 0
    both = [slide, second, "--model", tmp_path / "model", "--results-dir", tmp_path, "--backend"]
    done = pyramidai(*both, "auto")
    assert done.returncode == 0
    assert "(2 finished before)" in done.stderr
    assert_refused(pyramidai(*both, "openvino", "--resume"), "backend (onnxruntime, now openvino)", code=4)


def test_a_result_without_stain_normalisation_is_none_of_a_model_with(words: list[str | Path], tmp_path: Path) -> None:
    assert pyramidai(*words).returncode == 0
    model_of(tmp_path, stain={"method": "macenko"})
    assert_refused(pyramidai(*words, "--resume"), "stain normalisation (none, now macenko)", "model.yaml")


def test_a_result_of_one_positive_class_is_none_of_another(words: list[str | Path]) -> None:
    assert pyramidai(*words, "--positive-class", "normal").returncode == 0
    assert pyramidai(*words, "--positive-class", "normal", "--resume").returncode == 0
    assert_refused(pyramidai(*words, "--resume"), "positive class (normal, now tumor)")


def test_options_that_do_not_decide_leave_a_finished_result_finished(words: list[str | Path]) -> None:
    assert pyramidai(*words).returncode == 0
    others = ["--batch-size", "5", "--seed", "7", "--reader", "openslide", "--allow-upsampling", "--policy", "static"]
    assert pyramidai(*words, *others, "--resume").returncode == 0


def test_a_library_that_does_not_compute_may_come_and_go(words: list[str | Path], tmp_path: Path) -> None:
    assert with_versions({"openvino": None}, "full", *words).returncode == 74
    done = with_versions({"openvino": "99.1", "h5py": "99.1"}, "good", *words, "--resume")
    assert done.returncode == 0
    with h5py.File(tmp_path / "out.h5") as file:
        attributes = dict(file["execution"].attrs)
    assert attributes["tiles_from_journal"] > 0
    assert "openvino" not in attributes["libraries"]
    assert "mixed" not in attributes
    assert with_versions({"openvino": "99.2"}, "good", *words, "--resume").returncode == 0


def test_a_journal_of_other_versions_goes_on_when_that_is_accepted_and_the_result_says_so(
    words: list[str | Path], tmp_path: Path
) -> None:
    assert with_versions(OTHERS, "full", *words).returncode == 74
    refused = pyramidai(*words, "--resume")
    assert_refused(refused, f"numpy (99.1, now {np.__version__})", "--accept-mixed", "--overwrite")
    with_setting = pyramidai(*words, "--resume", "--mode", "exhaustive", "--accept-mixed")
    assert_refused(with_setting, "mode (pyramid, now exhaustive)")
    assert "with --accept-mixed" not in with_setting.stderr
    assert with_versions({"numpy": "99.2"}, "full", *words, "--resume", "--accept-mixed").returncode == 74
    done = pyramidai(*words, "--resume", "--accept-mixed", ranks=2)
    assert done.returncode == 0
    mixed = f"numpy 99.1, 99.2, {np.__version__}"
    assert mixed in done.stderr
    with h5py.File(tmp_path / "out.h5") as file:
        assert mixed in file["execution"].attrs["mixed"]
    (tmp_path / "out.h5").rename(tmp_path / "mixed.h5")
    assert pyramidai(*words).returncode == 0
    assert read_digest(tmp_path / "mixed.h5") == read_digest(tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert "mixed" not in file["execution"].attrs


def test_a_result_of_other_versions_is_left_alone_when_that_is_accepted(
    words: list[str | Path], tmp_path: Path
) -> None:
    assert with_versions(OTHERS, "good", *words).returncode == 0
    before = (tmp_path / "out.h5").read_bytes()
    assert_refused(pyramidai(*words, "--resume"), f"numpy (99.1, now {np.__version__})", "--accept-mixed")
    accepted = pyramidai(*words, "--resume", "--accept-mixed")
    assert accepted.returncode == 0
    assert "is left as it is, made with other numpy (99.1" in accepted.stderr
    assert (tmp_path / "out.h5").read_bytes() == before


def test_the_same_holds_for_each_of_many_slides(slide: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.tif"
    second.write_bytes(slide.read_bytes())
    words = [slide, second, "--model", model_of(tmp_path), "--results-dir", tmp_path]
    assert with_versions(OTHERS, "full", *words).returncode == 4
    refused = pyramidai(*words, "--resume")
    assert refused.returncode == 4
    assert "numpy (99.1, now" in refused.stderr
    assert pyramidai(*words, "--resume", "--accept-mixed").returncode == 0
    for name in ("slide.h5", "second.h5"):
        with h5py.File(tmp_path / name) as file:
            assert f"numpy 99.1, {np.__version__}" in file["execution"].attrs["mixed"]
            assert file["execution"].attrs["tiles_from_journal"] > 0


def test_a_journal_of_an_older_program_is_refused_and_says_how_to_finish_it(
    words: list[str | Path], tmp_path: Path
) -> None:
    import hashlib

    folder = tmp_path / "out.h5.journal"
    folder.mkdir()
    line = json.dumps({"format": "pyramidai-journal/1", "mode": "pyramid"}).encode()
    (folder / "manifest.json").write_bytes(line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n")
    done = pyramidai(*words, "--resume")
    assert done.returncode == 65
    assert "written by an older version of this program; finish with that one, or use --overwrite" in done.stderr
