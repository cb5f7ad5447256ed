"""Ranks die while tiles are explained, and the others go on: needs Open MPI 5 under --with-ft ulfm."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.store.explanations.contents import explanation_digest
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.testing.launch import REPOSITORY, mpirun
from tests.explaining import write_image, write_maps_package

if TYPE_CHECKING:
    from pathlib import Path

try:
    version("openmpi")
except PackageNotFoundError:
    pytest.skip("ranks outlive each other with Open MPI 5 only; .ci/lost_ranks has it", allow_module_level=True)

pytestmark = pytest.mark.mpi

LOOKING = "pyramidai_mpi.analyses.explain,UnitsOfSlide.look"
TILES = ("l0:10,10", "l0:200,100", "l0:330,260")


def words_of(folder: Path, out: Path) -> list[str | Path]:
    tiles = [word for tile in TILES for word in ("--tiles", tile)]
    asked = ["--method", "occlusion", "--mpp", "0.25", *tiles]
    return ["explain", folder / "slide.tif", "--model", folder / "model", "-o", out, *asked]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A slide, a model, and what one rank makes of them that nobody disturbs."""
    folder = tmp_path_factory.mktemp("explained")
    write_image(folder / "slide.tif")
    write_maps_package(folder / "model")
    assert mpirun(1, ["-m", "pyramidai_mpi", *words_of(folder, folder / "whole")]).returncode == 0
    return folder


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param([f"0,{LOOKING},2"], id="rank 0"),
        pytest.param([f"2,{LOOKING},1", f"1,{LOOKING},2"], id="two of four"),
        pytest.param(["0,pyramidai_mpi.run.explaining,place_explanation,1"], id="its owner, writing"),
    ],
)
def test_the_others_explain_the_very_same(deaths: list[str], folder, tmp_path) -> None:
    script = REPOSITORY / "tests" / "faults" / "run_dying.py"
    words = [script, ";".join(deaths), *words_of(folder, tmp_path)]
    job = mpirun(4, words, timeout=120, launcher_args=["--with-ft", "ulfm"])
    assert job.returncode == 0
    assert "ranks died" in job.stderr
    found, whole = (read_explanation(place / "slide.explained.h5") for place in (tmp_path, folder / "whole"))
    assert explanation_digest(found) == explanation_digest(whole)
    assert (tmp_path / "slide.explained.csv").read_bytes() == (folder / "whole" / "slide.explained.csv").read_bytes()
    assert not list(tmp_path.glob("*journal*"))
    assert not job.left_over
