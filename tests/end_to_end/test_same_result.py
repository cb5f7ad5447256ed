"""One slide, one result: whatever the ranks, seeds, policies and batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from tests.end_to_end.conftest import digest_of, pyramidai

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize(
    ("ranks", "options"),
    [
        pytest.param(1, ["--batch-size", "3"], id="one rank, small batches"),
        pytest.param(
            2, ["--seed", "1", "--reader", "openslide", "--read-ahead", "always"], id="two ranks, OpenSlide, ahead"
        ),
        pytest.param(
            3,
            ["--seed", "2", "--policy", "steal-one", "--reader", "tiff", "--read-ahead", "always"],
            id="three ranks, the paper's stealing, tiff, ahead",
        ),
        pytest.param(5, ["--seed", "3", "--batch-size", "64", "--read-ahead", "never"], id="five ranks, large batches"),
        pytest.param(5, ["--policy", "static", "--batch-size", "1"], id="five ranks, no stealing, single tiles"),
        pytest.param(12, ["--seed", "4", "--read-ahead", "always"], id="twelve ranks, ahead"),
    ],
)
def test_the_digest_does_not_depend_on_how_the_work_was_shared(
    ranks: int, options: list[str], slide: Path, pyramid_run: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.h5"
    assert pyramidai(slide, "-o", output, *options, ranks=ranks).returncode == 0
    assert digest_of(output) == digest_of(pyramid_run)
    with h5py.File(output) as file:
        assert file["execution/ranks"].shape == (ranks,)
        assert file["execution"].attrs["reader"] == ("openslide" if "openslide" in options else "tiff")
        assert file["execution/ranks"]["tasks"].sum() == sum(len(group["index"]) for group in file["levels"].values())


def test_another_threshold_gives_another_digest(slide: Path, pyramid_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    assert pyramidai(slide, "-o", output, "--threshold", "2=0.99").returncode == 0
    assert digest_of(output) != digest_of(pyramid_run)


def test_an_exhaustive_run_contains_the_pyramidal_one_and_the_reference_run_is_its_level_0(
    slide: Path, pyramid_run: Path, tmp_path: Path
) -> None:
    exhaustive, reference = tmp_path / "exhaustive.h5", tmp_path / "reference.h5"
    assert pyramidai(slide, "-o", exhaustive, "--mode", "exhaustive", ranks=2).returncode == 0
    assert pyramidai(slide, "-o", reference, "--mode", "reference", ranks=2).returncode == 0
    with h5py.File(pyramid_run) as pruned, h5py.File(exhaustive) as full, h5py.File(reference) as flat:
        for n in ("0", "1", "2"):
            found = {tuple(index): row for row, index in enumerate(full[f"levels/{n}/index"][...].tolist())}
            rows = [found[tuple(index)] for index in pruned[f"levels/{n}/index"][...].tolist()]
            assert rows, f"the pyramidal run looked at nothing on level {n}, so this compares nothing"
            for name in ("probability", "decision"):
                np.testing.assert_array_equal(pruned[f"levels/{n}/{name}"][...], full[f"levels/{n}/{name}"][...][rows])
        for name in ("index", "probability", "decision", "coords"):
            np.testing.assert_array_equal(flat[f"levels/0/{name}"][...], full[f"levels/0/{name}"][...])
        assert (flat["levels/0/parent"][...] == -1).all()
        assert len(flat["levels/1/index"]) == len(flat["levels/2/index"]) == 0
        assert len(pruned["levels/0/index"]) < len(full["levels/0/index"])


def test_every_child_names_the_tile_above_it_and_every_zoomed_tile_has_its_children(pyramid_run: Path) -> None:
    with h5py.File(pyramid_run) as file:
        for n in (0, 1):
            parent = file[f"levels/{n}/parent"][...]
            above = file[f"levels/{n + 1}/index"][...]
            np.testing.assert_array_equal(above[parent], file[f"levels/{n}/index"][...] // 2)
            zoomed = np.flatnonzero(file[f"levels/{n + 1}/decision"][...] == 1)
            assert set(parent.tolist()) == set(zoomed.tolist())
        assert (file["levels/2/parent"][...] == -1).all()
