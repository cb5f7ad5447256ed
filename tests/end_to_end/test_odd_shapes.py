"""Far more ranks than tiles, through the real command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import pytest

from pyramidai_mpi.testing.launch import mpirun
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.tiffs import textured, write_slide

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.mpi, pytest.mark.slow]


def test_24_ranks_on_3_tiles_give_the_digest_of_one(tmp_path: Path) -> None:
    slide = tmp_path / "three.tif"
    write_slide(slide, [textured(3 * 224, 224)])
    alone, crowd = tmp_path / "alone.h5", tmp_path / "crowd.h5"
    assert pyramidai(slide, "-o", alone, "--mode", "reference").returncode == 0
    with h5py.File(alone) as file:
        assert [len(file[f"levels/{n}/index"]) for n in range(3)] == [3, 0, 0]
    job = mpirun(24, ["-m", "pyramidai_mpi", slide, "-o", crowd, "--mode", "reference"], timeout=230)
    assert job.returncode == 0
    assert not job.left_over
    assert digest_of(crowd) == digest_of(alone)
