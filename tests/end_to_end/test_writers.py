"""Rank 0 alone and all ranks together write the same file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from pyramidai_mpi.testing.launch import REPOSITORY, mpirun
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import tissue_slide
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif(not h5py.get_config().mpi, reason="this h5py has no MPI; .ci/parallel_hdf5 builds one that has"),
]


def contents(path: Path) -> dict[str, Any]:
    """Everything in a file but the time of its creation: attributes, types, shapes, values."""
    found: dict[str, Any] = {}

    def visit(name: str, item: h5py.HLObject) -> None:
        found[f"{name}@"] = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
        if isinstance(item, h5py.Dataset):
            found[name] = (item.dtype, item.shape, item[...].tobytes())

    with h5py.File(path) as file:
        visit("/", file)
        file.visititems(visit)
    found["/@"].pop("created")
    return found


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("tissue", [True, False], ids=["tissue", "no tissue, so nobody has a row"])
def test_both_writers_give_the_same_content(ranks: int, tissue: bool, tmp_path: Path) -> None:
    # thresholds of 1: few tiles below the lowest level, so that some ranks have no row of a table
    model = write_package(tmp_path / "m", side=64, thresholds=(0.5, 0.9, 0.0))
    slide = tissue_slide(tmp_path / "s.tif", tissue=tissue)
    serial, parallel = tmp_path / "serial.h5", tmp_path / "parallel.h5"
    script = REPOSITORY / "tests" / "end_to_end" / "run_both_writers.py"
    assert mpirun(ranks, [script, str(slide), str(model), str(serial), str(parallel)]).returncode == 0
    assert contents(serial) == contents(parallel)
    assert (sum(shape[0] for _, shape, _ in [contents(serial)["levels/2/index"]]) > 0) is tissue


def test_the_command_uses_the_parallel_writer_when_it_can(tmp_path: Path) -> None:
    model = write_package(tmp_path / "m", side=64)
    slide = tissue_slide(tmp_path / "s.tif")
    assert pyramidai(slide, "--model", model, "-o", tmp_path / "out.h5", ranks=3).returncode == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["execution"].attrs["writer"] == "mpio"
