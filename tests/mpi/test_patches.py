"""Patches are the same on any number of ranks, and after any kill."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.synth import SynthSpec
from pyramidai_mpi.synth import write_slide as write_tissue
from pyramidai_mpi.testing.launch import REPOSITORY, kill, mpirun, started
from tests.tiffs import drop_tile, textured, write_slide

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

PROGRAM = str(REPOSITORY / "tests" / "mpi" / "run_patches.py")
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slides, one of them damaged, and the patches that three undisturbed ranks took."""
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(NAMES):
        write_slide(folder / f"{name}.tif", [textured(1024, 768, seed=seed)])
    drop_tile(folder / "b.tif", 3, 2)
    assert run(3, folder, folder).returncode == 0
    return folder


def arguments(folder: Path, results: Path, *options: str, seconds: float = 0) -> list[str]:
    return [PROGRAM, str(results), str(seconds), *options, *(str(folder / f"{name}.tif") for name in NAMES)]


def run(ranks: int, folder: Path, results: Path, *options: str):
    return mpirun(ranks, arguments(folder, results, *options))


def digests_of(results: Path) -> list[str]:
    found = []
    for name in NAMES:
        with open_patches(results / f"{name}.patches.h5") as patches:
            assert patches.check() == []
            places = patches.table[["col", "row"]].tolist()
            assert len(set(places)) == len(places) == len(np.unique(patches.coords, axis=0))
            found.append(patches.digest)
    return found


@pytest.mark.parametrize("ranks", [1, 2, 5, 12])
def test_any_number_of_ranks_takes_the_same(folder, tmp_path, ranks):
    job = run(ranks, folder, tmp_path)
    assert job.returncode == 0
    assert sorted(line.split()[0] for line in job.stdout.splitlines() if line[:2] in {"0 ", "3 "}) == ["0", "0", "3"]
    assert digests_of(tmp_path) == digests_of(folder)
    assert len(list(tmp_path.iterdir())) == 3


def journalled(results: Path) -> int:
    return sum(path.stat().st_size for path in results.glob("*.journal/*.tiles"))


@pytest.mark.parametrize(("ranks", "victim"), [(3, 2), (2, 0)])
def test_killed_and_resumed_it_takes_the_same(folder, tmp_path, ranks, victim):
    with started(ranks, arguments(folder, tmp_path, seconds=0.01)) as job:
        assert job.wait_until(lambda: journalled(tmp_path) > 3000), job.output()
        kill(job.ranks()[victim])
        assert job.wait() != 0
    assert run(3, folder, tmp_path, "--resume").returncode == 0
    assert digests_of(tmp_path) == digests_of(folder)
    restored = 0
    for name in NAMES:
        with h5py.File(tmp_path / f"{name}.patches.h5") as file:
            restored += int(file["execution"].attrs["patches_from_journal"])
    assert restored > 20
    assert len(list(tmp_path.iterdir())) == 3


def test_stopped_by_the_time_limit_it_goes_on_and_takes_the_same(folder, tmp_path):
    job = mpirun(2, arguments(folder, tmp_path, "--stop", seconds=0.1))
    assert job.returncode != 0
    assert job.stderr.count("stopped: ") == 2
    assert re.search(r"[1-9]\d* patches of others are kept", job.stderr)
    assert run(3, folder, tmp_path, "--resume").returncode == 0
    assert digests_of(tmp_path) == digests_of(folder)


def test_a_draw_is_the_same_on_any_ranks_and_another_with_another_seed(tmp_path):
    write_tissue(SynthSpec(3000, 3000, seed=1), tmp_path / "x.tif")
    found = {}
    for ranks, seed in ((1, 5), (3, 5), (2, 6)):
        output = tmp_path / f"{ranks}"
        output.mkdir()
        words = [
            "-m",
            "pyramidai_mpi",
            "patches",
            "extract",
            str(tmp_path / "x.tif"),
            "-o",
            str(output),
            "--mpp",
            "0.5",
        ]
        job = mpirun(ranks, [*words, "--size", "128", "--sample", "random:40", "--seed", str(seed)])
        assert job.returncode == 0
        with open_patches(output / "x.patches.h5") as patches:
            assert len(np.unique(patches.coords, axis=0)) == len(patches) == 40
            assert patches.header.n_cells > 60
            assert (patches.table["tissue"] >= 0.05).all()
            found[ranks] = patches.digest
    assert found[1] == found[3] != found[2]


def test_ranks_that_are_asked_for_other_patches_say_so(tmp_path):
    slide = write_slide(tmp_path / "x.tif", [textured(512, 384)])
    program = (
        "import sys; from mpi4py import MPI; from pathlib import Path\n"
        "from pyramidai_mpi.base.patch_order import PatchOrder\n"
        "from pyramidai_mpi.base.settings import RunSettings\n"
        "from pyramidai_mpi.run.extraction import extract_patches\n"
        "comm = MPI.COMM_WORLD\n"
        f"each = [RunSettings.of(Path({str(slide)!r}), Path(), Path({str(tmp_path / 'x.patches.h5')!r}))]\n"
        "try:\n"
        "    extract_patches(comm, each, PatchOrder(64, 64, level=0, seed=comm.rank))\n"
        "except Exception as error:\n"
        "    print(f'rank {comm.rank}: {error}')\n"
    )
    job = mpirun(2, ["-c", program])
    assert len(re.findall(r"not all ranks were started alike: patches: seed", job.stdout)) == 2
    assert not (tmp_path / "x.patches.h5").exists()
