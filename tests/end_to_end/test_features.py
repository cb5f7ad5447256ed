"""Feature vectors lie in the file beside their tiles, whoever computed and whoever wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import openslide
import pytest

from pyramidai_mpi.run.write import even_shares
from pyramidai_mpi.testing.launch import REPOSITORY, mpirun
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.end_to_end.test_damage import tissue_slide, wipe_tile
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi
SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A damaged slide, a second slide, a model whose features are the tile's mean colour, and one-rank runs."""
    folder = tmp_path_factory.mktemp("features")
    wipe_tile(tissue_slide(folder / "damaged.tif"), 5)
    tissue_slide(folder / "whole.tif", reduced_level=True)
    write_package(folder / "model", side=SIDE, thresholds=(0.5, 0.45, 0.3), with_features=True)
    (folder / "one").mkdir()
    for stem in ("damaged", "whole"):
        done = pyramidai(
            folder / f"{stem}.tif", "--model", folder / "model", "--features", "-o", folder / "one" / f"{stem}.h5"
        )
        assert done.returncode == (3 if stem == "damaged" else 0)
    return folder


def features_of(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {n: level["features"][...] for n, level in file["levels"].items()}


def assert_same_features(found: Path, expected: Path) -> None:
    assert digest_of(found) == digest_of(expected)
    for n, features in features_of(expected).items():
        np.testing.assert_array_equal(features_of(found)[n], features)


def test_each_row_is_the_mean_colour_of_its_tile_and_nan_where_it_is_unreadable(folder: Path) -> None:
    with h5py.File(folder / "one" / "damaged.h5") as file, openslide.OpenSlide(folder / "damaged.tif") as slide:
        level0 = file["levels/0"]
        unreadable = level0["decision"][...] == 2
        assert unreadable.sum() == 16
        assert np.isnan(level0["features"][...][unreadable]).all()
        for row in np.flatnonzero(~unreadable)[::7]:
            region = slide.read_region(tuple(level0["coords"][row].tolist()), 0, (SIDE, SIDE))
            mean = np.asarray(region)[..., :3].mean(axis=(0, 1))
            np.testing.assert_allclose(level0["features"][row], mean, atol=1e-3)


@pytest.mark.parametrize("ranks", [2, 5])
def test_they_do_not_depend_on_the_ranks(ranks: int, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    done = pyramidai(
        folder / "damaged.tif",
        "--model",
        folder / "model",
        "--features",
        "-o",
        output,
        "--seed",
        str(ranks),
        ranks=ranks,
    )
    assert done.returncode == 3
    assert_same_features(output, folder / "one" / "damaged.h5")


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_cohort_keeps_them_too(ranks: int, folder: Path, tmp_path: Path) -> None:
    slides = [folder / "damaged.tif", folder / "whole.tif"]
    done = pyramidai(*slides, "--model", folder / "model", "--features", "--results-dir", tmp_path, ranks=ranks)
    assert done.returncode == 3
    for stem in ("damaged", "whole"):
        assert_same_features(tmp_path / f"{stem}.h5", folder / "one" / f"{stem}.h5")


def test_a_model_without_features_is_exit_65(folder: Path, tmp_path: Path) -> None:
    model = write_package(tmp_path / "m", side=SIDE)
    done = pyramidai(folder / "whole.tif", "--model", model, "--features", "-o", tmp_path / "out.h5")
    assert done.returncode == 65
    assert "level0.onnx: has no second output" in done.stderr


def test_blocks_reach_their_writers_in_order_whatever_their_size() -> None:
    job = mpirun(3, [REPOSITORY / "tests" / "end_to_end" / "run_exchange.py"])
    assert job.returncode == 0
    assert job.stdout.count("exchanged") == 3


def test_shares_are_even_and_leave_nothing_out() -> None:
    for n_rows in (0, 1, 7, 100):
        for n_writers in (1, 3, 12):
            shares = even_shares(n_rows, n_writers)
            assert [row for first, last in shares for row in range(first, last)] == list(range(n_rows))
            assert max(b - a for a, b in shares) - min(b - a for a, b in shares) <= 1
