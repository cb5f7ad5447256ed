"""Much of everything: slides, levels, large tiles, and few open files; `bench.scale.many` has a thousand slides."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import h5py
import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import mpirun
from tests.end_to_end.conftest import pyramidai
from tests.packages import write_package
from tests.tiffs import halved, textured, write_slide

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

FACTOR = 3


def test_a_cohort_of_many_slides_runs_with_few_open_files(tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    write_slide(slides / "s00.tif", [textured(200, 200)])
    for number in range(1, 36):
        shutil.copyfile(slides / "s00.tif", slides / f"s{number:02}.tif")
    write_package(tmp_path / "model", side=64)
    words = ["--model", tmp_path / "model", "--no-tissue", "-q"]
    assert pyramidai(slides / "s00.tif", *words, "-o", tmp_path / "alone.h5").returncode == 0
    under = ["prlimit", "--nofile=64:64"]
    job = mpirun(
        3, ["-m", "pyramidai_mpi", slides, *words, "--results-dir", tmp_path / "results"], under=under, timeout=230
    )
    assert job.returncode == 0
    right = read_digest(tmp_path / "alone.h5")
    assert [read_digest(path) for path in sorted((tmp_path / "results").glob("*.h5"))] == [right] * 36
    others = [path.suffix for path in (tmp_path / "results").iterdir() if path.suffix != ".h5"]
    assert sorted(others) == [".csv", ".json"]


def tiles_of(result: Path) -> dict[int, dict[tuple[int, int], float]]:
    """Probability of the positive class of each tile, by level, column and row."""
    with h5py.File(result) as file:
        return {
            n: {
                (int(col), int(row)): float(scores[1])
                for (col, row), scores in zip(
                    file[f"levels/{n}/index"][:], file[f"levels/{n}/probability"][:], strict=True
                )
            }
            for n in range(len(file["levels"]))
        }


def middle_of(scores: list[float]) -> float:
    """A threshold between two scores, a third of all below it; of a single one that nothing is below."""
    below = (len(scores) + 1) // 3
    return sum(sorted(scores)[below - 1 : below + 1]) / 2 if below else 0.0


@pytest.mark.parametrize(("side", "n_levels", "width", "height"), [(32, 8, 1536, 1024), (1024, 4, 4096, 1024)])
def test_of_many_levels_by_three_the_tiles_are_those_counted_by_hand_for_any_ranks(
    side: int, n_levels: int, width: int, height: int, tmp_path: Path
) -> None:
    stored = [textured(width, height)]
    while min(stored[-1].shape[:2]) > 16:
        stored.append(halved(stored[-1]))
    slide = write_slide(tmp_path / "slide.tif", stored)
    model = write_package(tmp_path / "model", n_levels=n_levels, side=side, yaml_changes={"scale_factor": FACTOR})
    words = [slide, "--model", model, "--no-tissue", "-q"]
    everything = tmp_path / "everything.h5"
    assert pyramidai(*words, "-o", everything, "--mode", "exhaustive").returncode == 0
    scores = tiles_of(everything)
    for n in range(n_levels):
        cols, rows = (-(-pixels // (side * FACTOR**n)) for pixels in (width, height))
        assert sorted(scores[n]) == [(col, row) for col in range(cols) for row in range(rows)]
    thresholds = {n: middle_of([*scores[n].values()]) for n in range(n_levels)}
    words += [word for n, threshold in thresholds.items() for word in ("--threshold", f"{n}={threshold!r}")]
    expected = {n_levels - 1: set(scores[n_levels - 1])}
    for n in range(n_levels - 1, 0, -1):
        children = {
            (FACTOR * col + i, FACTOR * row + j)
            for col, row in expected[n]
            if scores[n][col, row] >= thresholds[n]
            for i in range(FACTOR)
            for j in range(FACTOR)
        }
        expected[n - 1] = children & set(scores[n - 1])
    assert 0 < len(expected[0]) < len(scores[0])
    digests = set()
    for ranks in (None, 2, 3, 5):
        out = tmp_path / f"on-{ranks}.h5"
        assert pyramidai(*words, "-o", out, ranks=ranks).returncode == 0
        digests.add(read_digest(out))
        assert {n: set(tiles) for n, tiles in tiles_of(out).items()} == expected
    assert len(digests) == 1
