"""An analysis sends nothing and leaves nothing: no file in the user's home, no socket but MPI's."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import h5py
import pytest

from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.end_to_end.conftest import pyramidai
from tests.leaving import assert_nothing, left_by, reached_in
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four small slides, two with tumour, and their truth."""
    folder = tmp_path_factory.mktemp("slides")
    for seed in range(4):
        write_slide(SynthSpec(1500, 1200, seed=seed + 20, tumor_share=0.4 * (seed % 2)), folder / f"s{seed}.tif")
    return folder


@pytest.fixture(scope="module")
def results(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exhaustive results of all."""
    folder = tmp_path_factory.mktemp("results")
    assert pyramidai(slides, "--results-dir", folder, "--mode", "exhaustive").returncode == 0
    return folder


@pytest.mark.mpi
def test_a_run_of_two_ranks_with_a_model_of_ones_own_and_all_exports(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    model = write_package(tmp_path / "model", side=64, thresholds=(0.5, 0.3, 0.2))  # is tried in a child
    exports = "csv,geojson,heatmap,overlay,deepzoom,tiles,clam,report"
    two = [slides / "s0.tif", slides / "s1.tif"]
    own = ["--model", model, "--no-compiled-cache"]
    words = [*two, *own, "--results-dir", tmp_path / "results", "--export", exports]
    assert_nothing(left_by(words, tmp_path / "watched", ranks=2))


def test_a_run_from_python(slides: Path, tmp_path: Path) -> None:
    code = f"import pyramidai_mpi; print(pyramidai_mpi.analyse({str(slides / 's1.tif')!r}).digest)"
    assert_nothing(left_by([], tmp_path / "watched", code=code))


def test_pictures_of_tuning_evaluating_and_simulating(slides: Path, results: Path, tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    plots.mkdir()
    files = sorted(results.glob("*.h5"))
    truth = ["--truth", slides]
    for number, words in enumerate(
        (
            ["tune", *files, *truth, "--plots", plots],
            ["evaluate", *files, *truth, "--plots", plots],
            ["simulate", *files, "--workers", "2,3", "--plot", plots / "simulated"],
        )
    ):
        assert_nothing(left_by(words, tmp_path / str(number)))
    assert len(list(plots.iterdir())) > 6


def test_a_classifier_of_slides(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("skops", reason="classify is an extra: pip install 'pyramidai-mpi[classify]'")
    labels = tmp_path / "labels.csv"
    labels.write_text("slide,label\ns0.tif,normal\ns1.tif,tumor\ns2.tif,normal\ns3.tif,tumor\n")
    files = sorted(results.glob("*.h5"))
    words = ["classify", "fit", *files, "--labels", labels, "-o", tmp_path / "c.skops", "--folds", "2", "--trees", "5"]
    assert_nothing(left_by(words, tmp_path / "watched"))


def test_quantising(slides: Path, tmp_path: Path) -> None:
    words = ["models", "quantize", default_model(), "--calibrate", slides / "s1.tif", "--tiles", "8"]
    assert_nothing(left_by([*words, "-o", tmp_path / "int8", "--max-changed", "0.5"], tmp_path / "watched"))


def test_a_program_that_loads_onnxruntime_by_itself_after_us(tmp_path: Path) -> None:
    assert_nothing(left_by([], tmp_path / "watched", code="import pyramidai_mpi, onnxruntime"))


def test_the_watch_would_see_a_file_and_a_call(tmp_path: Path) -> None:
    code = """
import os, pathlib, socket
(pathlib.Path.home() / "identity").write_text("me")
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.connect(("192.0.2.7", 443)) if os.path.exists("/proc/net/route") else None
"""
    try:
        left = left_by([], tmp_path / "watched", code=code)
    except AssertionError:
        pytest.skip("this machine has no way out at all, so a call cannot be made here")
    assert left.files == ["home/identity"]
    assert left.reached in (None, ["192.0.2.7:443"])


def test_name_servers_count_and_this_machine_does_not() -> None:
    trace = """
connect(3, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 110) = -1 ENOENT
connect(4, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0
connect(5, {sa_family=AF_INET, sin_port=htons(40001), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
connect(5, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2620:1ec::1", &sin6_addr), sin6_scope_id=0}, 28) = 0
connect(6, {sa_family=AF_UNIX, sun_path="/tmp/pmix"}, 110) = 0
"""  # noqa: E501
    assert reached_in(trace) == ["127.0.0.53:53", "2620:1ec::1:443", "/run/systemd/resolve/io.systemd.Resolve"]


def test_results_and_records_name_files_without_the_users_folders(slides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "secret-ward" / "results"
    folder.mkdir(parents=True)
    mine = folder.parent / "slides"
    shutil.copytree(slides, mine, ignore=shutil.ignore_patterns("s2.*", "s3.*"))
    (mine / "broken.tif").write_text("no slide")
    model = shutil.copytree(default_model(), folder.parent / "model")
    exports = "csv,geojson,overlay,deepzoom,tiles,clam,report"
    words = [mine, "--model", model, "--results-dir", folder, "--export", exports, "--threshold", "1=0.4"]
    assert pyramidai(*words).returncode == 4
    made = [path for path in folder.rglob("*") if path.is_file()]
    assert len(made) > 10
    assert not [path for path in made if b"secret-ward" in path.read_bytes()]
    assert not [path for path in made if str(REPOSITORY).encode() in path.read_bytes()]
    with h5py.File(folder / "s0.h5") as file:
        command = file["execution"].attrs["command_line"]
    assert command == (f"pyramidai run slides --model model --results-dir results --threshold 1=0.4 --export {exports}")
    assert "broken.tif: " in (folder / "summary.csv").read_text()
