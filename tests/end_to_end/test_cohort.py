"""Many slides in one run: the files of single runs, as soon as each is done, and no slide ends another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from pyramidai_mpi.synth import SynthSpec, write_slide
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.end_to_end.test_damage import tissue_slide, wipe_tile
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Five slides, among them one damaged and one without tissue, with a model; and the folder of their single runs."""
    folder = tmp_path_factory.mktemp("cohort")
    slides = [tissue_slide(folder / "square.tif"), tissue_slide(folder / "glass.tif", tissue=False)]
    slides.append(tissue_slide(folder / "damaged.tif"))
    wipe_tile(slides[-1], 5)
    for seed in (1, 2):
        slides.append(folder / f"synth{seed}.tif")
        write_slide(SynthSpec(2500, 2000, seed=seed), slides[-1])
    write_package(folder / "model", side=64, thresholds=(0.5, 0.3, 0.2))
    (folder / "single").mkdir()
    for slide in slides:
        done = pyramidai(slide, "--model", folder / "model", "-o", folder / "single" / f"{slide.stem}.h5")
        assert done.returncode == (3 if slide.stem == "damaged" else 0)
    return slides, folder


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_each_file_is_that_of_a_run_of_its_own(ranks: int, cohort: tuple[list[Path], Path], tmp_path: Path) -> None:
    slides, folder = cohort
    done = pyramidai(*slides, "--model", folder / "model", "--results-dir", tmp_path, ranks=ranks)
    assert done.returncode == 3
    for slide in slides:
        assert digest_of(tmp_path / f"{slide.stem}.h5") == digest_of(folder / "single" / f"{slide.stem}.h5")
        with h5py.File(tmp_path / f"{slide.stem}.h5") as file, h5py.File(folder / "single" / f"{slide.stem}.h5") as one:
            np.testing.assert_array_equal(file["failed"][...], one["failed"][...])
            n_tiles = sum(len(level["index"]) for level in file["levels"].values())
            assert file["execution/ranks"]["tasks"].sum() == n_tiles
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_bad_slides_are_listed_with_their_reason_and_the_others_finish(
    cohort: tuple[list[Path], Path], tmp_path: Path
) -> None:
    slides, folder = cohort
    (tmp_path / "notes.tif").write_text("no slide")
    (tmp_path / "square.h5").write_text("dear to somebody")
    done = pyramidai(tmp_path / "notes.tif", *slides, "--model", folder / "model", "--results-dir", tmp_path, ranks=3)
    assert done.returncode == 4
    assert "2 of 6 slides failed" in done.stderr
    assert "notes.tif: not a whole-slide image" in done.stderr
    assert "square.h5: exists already" in done.stderr
    assert (tmp_path / "square.h5").read_text() == "dear to somebody"
    for stem in ("glass", "damaged", "synth1", "synth2"):
        assert digest_of(tmp_path / f"{stem}.h5") == digest_of(folder / "single" / f"{stem}.h5")


def test_a_file_is_there_as_soon_as_its_slide_is_done(cohort: tuple[list[Path], Path], tmp_path: Path) -> None:
    slides, folder = cohort
    done = pyramidai(*slides, "--model", folder / "model", "--results-dir", tmp_path, "--batch-size", "2", ranks=2)
    assert done.returncode == 3
    ended = [line for line in done.stderr.splitlines() if "/5] " in line]
    assert len(ended) == 5
    written = sorted((tmp_path / f"{slide.stem}.h5").stat().st_mtime_ns for slide in slides)
    # the empty slide needs no tile, the generated ones some hundred: not all can have come at the end together
    assert written[-1] - written[0] > 50e6
