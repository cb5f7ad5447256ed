"""A draw that pixels refuse cells of is the same on any number of ranks, and after any kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.testing.launch import REPOSITORY, kill, mpirun, started
from tests.mpi.test_patches import journalled
from tests.tiffs import drop_tile, textured, write_slide
from tests.truth.files import feature, geojson

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

PROGRAM = str(REPOSITORY / "tests" / "mpi" / "run_patches.py")
NAMES = ("a", "b")
N_COLS, N_ROWS = 32, 24
FEW = 9
"""Wanted of each label, of several hundred cells: cells are looked at in chains."""
MANY = 60
"""All are looked at."""


def white_of(name: str) -> np.ndarray:
    """Which cells of a slide are white: two in five."""
    return np.random.default_rng(NAMES.index(name)).random((N_ROWS, N_COLS)) < 0.4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides whose left half is tumour, one with a missing stored tile, and what three ranks drew."""
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(NAMES):
        image = textured(64 * N_COLS, 64 * N_ROWS, seed=seed)
        image[white_of(name).repeat(64, axis=0).repeat(64, axis=1)] = 250
        write_slide(folder / f"{name}.tif", [image])
        half, height = 32 * N_COLS, 64 * N_ROWS
        geojson(folder / f"{name}.geojson", feature([[[0, 0], [half, 0], [half, height], [0, height]]]))
    drop_tile(folder / "b.tif", 3, 2)
    for n in (FEW, MANY):
        (folder / str(n)).mkdir()
        assert mpirun(3, arguments(folder, folder / str(n), n)).returncode == 0
    return folder


def arguments(folder: Path, results: Path, n: int, *options: str, seconds: float = 0) -> list[str]:
    slides = [str(folder / f"{name}.tif") for name in NAMES]
    return [PROGRAM, str(results), str(seconds), f"--drawn={n}", *options, *slides]


def digests_of(results: Path) -> list[str]:
    found = []
    for name in NAMES:
        with open_patches(results / f"{name}.patches.h5") as patches:
            found.append(patches.digest)
    return found


@pytest.mark.parametrize("n", [FEW, MANY])
def test_as_many_of_each_label_are_taken_as_are_wanted_and_none_is_white(folder, n):
    for name in NAMES:
        with open_patches(folder / str(n) / f"{name}.patches.h5") as patches:
            table, header = patches.table, patches.header
            assert np.bincount(table["label"]).tolist() == [n, n]
            assert not white_of(name)[table["row"], table["col"]].any()
            assert (table["label"] == (table["col"] < N_COLS // 2)).all()
            assert (table["white"] < 0.01).all()
            # two in five that were looked at were refused
            assert header.n_refused == pytest.approx(2 * n * 2 / 3, abs=4 * np.sqrt(2 * n))
            assert header.n_refused > 0
            assert patches.check() == []


@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize("ranks", [1, 2])
def test_any_number_of_ranks_takes_the_same(folder, tmp_path, ranks, n):
    assert mpirun(ranks, arguments(folder, tmp_path, n)).returncode == 0
    assert digests_of(tmp_path) == digests_of(folder / str(n))


@pytest.mark.parametrize(("ranks", "victim", "n"), [(3, 2, FEW), (2, 0, MANY)])
def test_killed_and_resumed_it_takes_the_same(folder, tmp_path, ranks, victim, n):
    enough = 20 * n  # bytes of a few records of those that are wanted
    with started(ranks, arguments(folder, tmp_path, n, seconds=0.02)) as job:
        assert job.wait_until(lambda: journalled(tmp_path) > enough), job.output()
        kill(job.ranks()[victim])
        assert job.wait() != 0
    assert not (tmp_path / "b.patches.h5").exists()
    assert mpirun(3, arguments(folder, tmp_path, n, "--resume")).returncode == 0
    assert digests_of(tmp_path) == digests_of(folder / str(n))
    assert len(list(tmp_path.iterdir())) == len(NAMES)


def test_pictures_go_with_their_patches_on_any_number_of_ranks(folder, tmp_path):
    found = []
    for ranks in (1, 3):
        output = tmp_path / str(ranks)
        output.mkdir()
        assert mpirun(ranks, arguments(folder, output, FEW, "--pixels=raw")).returncode == 0
        found.append(digests_of(output))
    assert found[0] == found[1]
    with open_patches(output / "a.patches.h5") as raw, open_patches(folder / str(FEW) / "a.patches.h5") as stored:
        assert raw.table.tobytes() == stored.table.tobytes()
        for number in range(2 * FEW):
            np.testing.assert_array_equal(raw[number], stored[number])
