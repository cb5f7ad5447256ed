"""Ranks die while a network is trained, and the others come to the same weights: needs Open MPI 5 and torch."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyramidai_mpi.testing.launch import mpirun
from tests.faults.test_lost_ranks import mpirun_with_deaths
from tests.patch_files import labelled_by, order_of, write_patches_of
from tests.tiffs import textured, write_slide

if TYPE_CHECKING:
    from pathlib import Path

try:
    version("torch")
except PackageNotFoundError:
    pytest.skip("training needs torch", allow_module_level=True)

pytestmark = pytest.mark.mpi

STEP = "pyramidai_mpi.training.exact.gradients,ExactGradients.of_step"
SUM = "pyramidai_mpi.ranks.unit_pool,UnitPool._combine"


@pytest.fixture(scope="module")
def patches(tmp_path_factory) -> Path:
    """Files of patches of three patients; the right half of each slide is dark, and tumour."""
    folder = tmp_path_factory.mktemp("patches")
    for patient in range(3):
        image = textured(256, 128, patient)
        image[:, 128:] //= 2
        slide = write_slide(folder / f"patient_{patient:03}_node_0.tif", [image], mpp=0.5)
        labels = labelled_by(("normal", "tumor"), lambda table: (table["col"] >= 4).astype(np.int16))
        write_patches_of(slide, folder / f"patient_{patient:03}_node_0.patches.h5", order_of(32, 32), change=labels)
    return folder


def words(patches: Path, out: Path) -> list[str]:
    usual = ["--epochs", "3", "--batch-size", "8", "--micro-batch", "2", "--save-every", "0", "-q"]
    return ["train", "--patches", str(patches), "-o", str(out), *usual]


@pytest.fixture(scope="module")
def undisturbed(patches, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "package"
    assert mpirun(1, ["-m", "pyramidai_mpi", *words(patches, out)]).returncode == 0
    return out


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param(f"0,{STEP},5", id="rank 0, in a step"),
        pytest.param(f"3,{SUM},6", id="while sums are added"),
        pytest.param(f"2,{STEP},2;4,{STEP},7", id="two, one after the other"),
    ],
)
def test_the_others_come_to_the_same_weights(deaths: str, patches, undisturbed, tmp_path) -> None:
    out = tmp_path / "package"
    job = mpirun_with_deaths(deaths, *words(patches, out))
    assert job.returncode == 0
    assert re.search(r"\d of 5 ranks died; the other \d go on", job.stderr)
    assert (out / "log.csv").read_bytes() == (undisturbed / "log.csv").read_bytes()
    assert (out / "level0.onnx").read_bytes() == (undisturbed / "level0.onnx").read_bytes()
    assert not job.left_over
