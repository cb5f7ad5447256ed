"""Patches that are kept decoded are the same on any number of ranks, and after any kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.testing.launch import REPOSITORY, kill, mpirun, started
from tests.tiffs import drop_tile, textured, write_slide

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

PROGRAM = str(REPOSITORY / "tests" / "mpi" / "run_patches.py")
NAMES = ("a", "b", "c")
PICTURES = {"raw": [True] * 3, "jpeg:90": [True] * 3, "stored": [False, False, True]}
"""Which slides' patches are kept as pictures: the last one's tiles cannot be kept."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slides: one sound, one with a missing tile, one whose tiles no decoder of ours takes."""
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(NAMES):
        image = textured(512, 384, seed=seed)
        write_slide(folder / f"{name}.tif", [image], compression="lzw" if name == "c" else "jpeg")
    drop_tile(folder / "b.tif", 1, 2)
    return folder


def arguments(folder: Path, results: Path, *options: str, seconds: float = 0) -> list[str]:
    return [PROGRAM, str(results), str(seconds), *options, *(str(folder / f"{name}.tif") for name in NAMES)]


def run(ranks: int, folder: Path, results: Path, *options: str) -> list[str]:
    results.mkdir(exist_ok=True)
    job = mpirun(ranks, arguments(folder, results, *options))
    assert job.returncode == 0, job.stderr
    assert sorted(line.split()[0] for line in job.stdout.splitlines() if line[:2] in {"0 ", "3 "}) == ["0", "0", "3"]
    assert len(list(results.iterdir())) == 3
    return digests_of(results)


def digests_of(results: Path) -> list[str]:
    found = []
    for name in NAMES:
        with open_patches(results / f"{name}.patches.h5") as patches:
            assert patches.check() == []
            assert len(patches) + len(patches.failed) == 48
            found.append(patches.digest)
    return found


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[str]]]:
    """What one rank made, by what is kept of the pixels."""
    made = {}
    for pixels in PICTURES:
        results = tmp_path_factory.mktemp("alone")
        made[pixels] = results, run(1, folder, results, f"--pixels={pixels}")
    return made


@pytest.mark.parametrize(("pixels", "ranks"), [("raw", 3), ("jpeg:90", 2), ("stored", 3)])
def test_any_number_of_ranks_takes_the_same(folder, tmp_path, undisturbed, pixels, ranks):
    assert run(ranks, folder, tmp_path, f"--pixels={pixels}") == undisturbed[pixels][1]
    for name, has_pictures in zip(NAMES, PICTURES[pixels], strict=True):
        with open_patches(tmp_path / f"{name}.patches.h5") as patches:
            assert (patches.header.images is not None) == has_pictures


def test_what_is_kept_raw_is_what_the_stored_tiles_give(undisturbed):
    for name in ("a", "b"):
        file = f"{name}.patches.h5"
        with open_patches(undisturbed["raw"][0] / file) as raw, open_patches(undisturbed["stored"][0] / file) as stored:
            np.testing.assert_array_equal(np.stack(list(raw)), np.stack(list(stored)))
            assert raw.digest != stored.digest
    # asked for in words, or since nothing else could be had: it is the same file
    assert undisturbed["raw"][1][2] == undisturbed["stored"][1][2]


@pytest.mark.parametrize(("pixels", "ranks", "victim"), [("raw", 3, 2), ("jpeg:90", 2, 0)])
def test_killed_and_resumed_it_takes_the_same(folder, tmp_path, undisturbed, pixels, ranks, victim):
    option = f"--pixels={pixels}"

    def journalled() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob("*.journal/*.tiles"))

    with started(ranks, arguments(folder, tmp_path, option, seconds=0.02)) as job:
        assert job.wait_until(lambda: journalled() > (600_000 if pixels == "raw" else 100_000)), job.output()
        kill(job.ranks()[victim])
        assert job.wait() != 0
    assert run(3, folder, tmp_path, option, "--resume") == undisturbed[pixels][1]
    restored = 0
    for name in NAMES:
        with h5py.File(tmp_path / f"{name}.patches.h5") as file:
            restored += int(file["execution"].attrs["patches_from_journal"])
    assert restored > 15
