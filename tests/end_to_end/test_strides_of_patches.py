"""Windows at a stride from a file of patches alone, given in its slide's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.types import WindowState
from pyramidai_mpi.synth import SynthSpec, write_slide
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.end_to_end.test_strides import WINDOW, map_in, scored, windows_in

if TYPE_CHECKING:
    from pathlib import Path

INCOMPLETE = 3
"""Exit code where windows are unreadable."""
SIZE = (900, 760)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "node.tif"
    write_slide(SynthSpec(*SIZE, seed=2, tumor_share=0.2), path)
    return path


@pytest.fixture(scope="module")
def patches(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FDA's patches of a slide, in another folder than it."""
    folder = tmp_path_factory.mktemp("patches")
    options = ["--size", "448", "--stride", "224", "--mpp", "0.25", "-o", folder]
    assert pyramidai("patches", "extract", slide, *options).returncode == 0
    return folder / "node.patches.h5"


def options_of(stride: int, patches: Path) -> list[str]:
    """All windows of all cells that were kept."""
    return ["--stride", str(stride), "--mode", "reference", "--tissue", str(patches), "--min-tissue", "0"]


@pytest.fixture(scope="module")
def result(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("result") / "node.h5"
    assert pyramidai("run", patches, "-o", path, *options_of(16, patches)).returncode == 0
    return path


@pytest.fixture(scope="module")
def of_slide(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the slide itself gives it, with tissue found there."""
    path = tmp_path_factory.mktemp("result") / "slide.h5"
    assert pyramidai("run", slide, "-o", path, "--stride", "16", "--mode", "reference").returncode == 0
    return path


def test_a_patch_holds_all_windows_of_its_cell(slide, patches, result, model) -> None:
    with h5py.File(patches) as file:
        cells = file["patches/cell_coords"][...]
    steps = np.arange(0, WINDOW, 16) - WINDOW // 2
    expected = {(x + right, y + down) for x, y in cells.tolist() for right in steps for down in steps}
    # cells that lie beyond the slide have no window
    inside = {(x, y) for x, y in expected if x + WINDOW // 2 < SIZE[0] and y + WINDOW // 2 < SIZE[1]}
    corners, scores = windows_in(result)
    assert {tuple(corner) for corner in corners.tolist()} == inside
    assert len(corners) == len(inside) > 1000
    with h5py.File(result) as file:
        assert file["execution"].attrs["reader"] == "patches"
        assert len(file["failed"]) == 0
    chosen = np.random.default_rng(0).permutation(len(corners))[:20]
    assert np.abs(scored(slide, corners[chosen], model) - scores[chosen]).max() <= 1e-5


def test_scores_are_those_of_the_slide_to_the_bit(result, of_slide) -> None:
    found, expected = map_in(result), map_in(of_slide)
    both = np.isfinite(found.score) & np.isfinite(expected.score)
    np.testing.assert_array_equal(found.score[both], expected.score[both])
    # all that the slide's own run has looked at lies in cells that were kept
    assert both.sum() == np.isfinite(expected.score).sum() > 1000


def test_windows_that_reach_beyond_what_is_kept_are_listed_and_no_others(slide, tmp_path) -> None:
    """Of patches without a margin, of the slide's first column."""
    left = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    left[:, :WINDOW] = 255
    Image.fromarray(left).save(tmp_path / "left.png")
    options = ["--size", "224", "--stride", "224", "--mpp", "0.25", "--tissue-mask", tmp_path / "left.png"]
    assert pyramidai("patches", "extract", slide, *options, "-o", tmp_path).returncode == 0
    patches = tmp_path / "node.patches.h5"
    with h5py.File(patches) as file:
        kept = set(file["tiles/index"]["number"].tolist())
        side = file["tiles"].attrs["tile_size"].tolist()
        across = -(-SIZE[0] // side[0])
    runs = {name: tmp_path / f"{name}.h5" for name in ("slide", "patches")}
    codes = [
        pyramidai("run", source, "-o", runs[name], *options_of(56, patches)).returncode
        for name, source in (("slide", slide), ("patches", patches))
    ]
    unreadable, looked = [], []
    with h5py.File(runs["patches"]) as file:
        group = file["levels/0"]
        for corner, state in zip(group["coords"], group["state"], strict=True):
            for row, col in np.argwhere(np.isin(state, (WindowState.LOOKED, WindowState.UNREADABLE))).tolist():
                one = unreadable if state[row, col] == WindowState.UNREADABLE else looked
                one.append((int(corner[0]) + 56 * col, int(corner[1]) + 56 * row))
        reasons = file["failed"]["reason"].tolist()
    assert codes == [0, INCOMPLETE]
    assert len(looked) > 20
    assert len(unreadable) > 5
    assert sum(int(reason.partition(b" of ")[0]) for reason in reasons) == len(unreadable)
    assert all(reason.endswith(b"is not kept in node.patches.h5") for reason in reasons)

    def is_kept(x: int, y: int) -> bool:
        """Whether all of a window is, but for what lies off the slide."""
        cols, rows = (
            range(max(first, 0) // length, (min(first + WINDOW, extent) - 1) // length + 1)
            for first, length, extent in ((x, side[0], SIZE[0]), (y, side[1], SIZE[1]))
        )
        return all(row * across + col in kept for row in rows for col in cols)

    assert all(is_kept(*corner) for corner in looked)
    assert not any(is_kept(*corner) for corner in unreadable)
    whole = dict(zip(map(tuple, windows_in(runs["slide"])[0].tolist()), windows_in(runs["slide"])[1], strict=True))
    for corner, score in zip(*windows_in(runs["patches"]), strict=True):
        assert whole[tuple(corner.tolist())] == score
    assert len(whole) == len(looked) + len(unreadable)


def test_strides_in_steps_have_the_same_scores_too(patches, result, tmp_path) -> None:
    steps = tmp_path / "steps.h5"
    done = pyramidai("run", patches, "-o", steps, *options_of(16, patches), "--stride-mode", "adaptive")
    assert done.returncode in {0, INCOMPLETE}
    found, expected = map_in(steps), map_in(result)
    refined = (found.stride == 16) & np.isfinite(expected.score)
    np.testing.assert_array_equal(found.score[refined], expected.score[refined])
    assert 100 < refined.sum() < np.isfinite(expected.score).sum()


def test_parts_join_to_the_run_in_one_piece(patches, tmp_path) -> None:
    options = options_of(56, patches)
    for number in (1, 2):
        done = pyramidai("run", patches, "-o", tmp_path / "out.h5", *options, "--part", f"{number}/2")
        assert done.returncode == 0
    assert pyramidai("merge", *sorted(tmp_path.glob("out.part-*.h5"))).returncode == 0
    assert pyramidai("run", patches, "-o", tmp_path / "whole.h5", *options).returncode == 0
    assert digest_of(tmp_path / "out.h5") == digest_of(tmp_path / "whole.h5")
