"""The probabilities in a result, recomputed with OpenSlide or tifffile, and onnxruntime alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py
import numpy as np
import onnxruntime
import openslide
import pytest
import tifffile

from tests.end_to_end.conftest import pyramidai, real_slide

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


Read = Callable[[tuple[int, int], int, int], "np.ndarray"]
"""Pixels uint8 (side, side, 3) at a level-0 corner, of a stored level."""


@contextmanager
def by_openslide(slide: Path) -> Iterator[Read]:
    def read(corner: tuple[int, int], stored_level: int, side: int) -> np.ndarray:
        rgba = np.asarray(handle.read_region(corner, stored_level, (side, side))).astype(np.float64)
        alpha = rgba[..., 3:] / 255
        return np.rint(rgba[..., :3] * alpha + 255.0 * (1 - alpha)).astype(np.uint8)

    with openslide.OpenSlide(slide) as handle:
        yield read


@contextmanager
def by_tifffile(slide: Path) -> Iterator[Read]:
    """A level's own pixels, which OpenSlide interpolates where the level's size was rounded."""

    def read(corner: tuple[int, int], stored_level: int, side: int) -> np.ndarray:
        if stored_level not in levels:
            levels[stored_level] = file.series[0].levels[stored_level].asarray()
        x, y = (at >> stored_level for at in corner)  # each level is half as large as the one before
        found = levels[stored_level][y : y + side, x : x + side]
        white = np.full((side, side, 3), 255, np.uint8)
        white[: found.shape[0], : found.shape[1]] = found
        return white

    levels: dict[int, np.ndarray] = {}
    with tifffile.TiffFile(slide) as file:
        yield read


def worst_difference(read: Read, result: Path, model: Path, level: int, tiles: int) -> float:
    with h5py.File(result) as file:
        group = file[f"levels/{level}"]
        coords, probability = group["coords"][...], group["probability"][...]
        stored_level, side = int(group.attrs["patch_level"]), int(group.attrs["patch_size"])
    chosen = np.random.default_rng(level).permutation(len(coords))[:tiles]
    assert len(chosen), f"no tiles on level {level}, so this compares nothing"
    session = onnxruntime.InferenceSession(str(model / f"level{level}.onnx"), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    worst = 0.0
    for row in chosen:
        x, y = coords[row].tolist()
        found = session.run(None, {name: read((x, y), stored_level, side)[None]})[0][0]
        worst = max(worst, float(np.abs(found - probability[row]).max()))
    return worst


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_few_lines_give_the_same_probabilities(level: int, slide: Path, pyramid_run: Path, model: Path) -> None:
    with by_openslide(slide) as read:
        assert worst_difference(read, pyramid_run, model, level, tiles=100) <= 1e-5


@pytest.mark.real
@pytest.mark.mpi
@pytest.mark.parametrize(
    ("name", "options"),
    [("BS9-HE2.tif", []), ("insidious-lymph-node-metastasis-HE.tif", ["--mpp", "0.25"])],
    ids=["biopsy", "lymph node"],
)
@pytest.mark.parametrize(
    ("by", "levels", "odd"),
    [(by_openslide, (0, 1, 2), ["--odd-levels", "interpolated"]), (by_tifffile, (2,), [])],
    ids=["interpolated", "own"],
)
def test_also_on_real_slides(
    name: str,
    options: list[str],
    by: Callable[[Path], AbstractContextManager[Read]],
    levels: tuple[int, ...],
    odd: list[str],
    model: Path,
    tmp_path: Path,
) -> None:
    # a third of the tiles, from all over the slide; its levels 1 or 2 and on are of rounded size
    path, part = real_slide(name), ["--mode", "exhaustive", "--part", "2/3"]
    assert pyramidai(path, "-o", tmp_path / "out.h5", *options, *part, *odd, ranks=2).returncode == 0
    result = tmp_path / "out.part-2-of-3.h5"
    with by(path) as read:
        for level in levels:
            assert worst_difference(read, result, model, level, tiles=100) <= 1e-5
