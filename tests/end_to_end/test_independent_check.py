"""The probabilities in a result, recomputed with OpenSlide and onnxruntime alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import onnxruntime
import openslide
import pytest

from tests.end_to_end.conftest import pyramidai, real_slide

if TYPE_CHECKING:
    from pathlib import Path


def worst_difference(slide: Path, result: Path, model: Path, level: int, tiles: int) -> float:
    with h5py.File(result) as file:
        group = file[f"levels/{level}"]
        coords, probability = group["coords"][...], group["probability"][...]
        stored_level, side = int(group.attrs["patch_level"]), int(group.attrs["patch_size"])
    chosen = np.random.default_rng(level).permutation(len(coords))[:tiles]
    assert len(chosen), f"no tiles on level {level}, so this compares nothing"
    session = onnxruntime.InferenceSession(str(model / f"level{level}.onnx"), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    worst = 0.0
    with openslide.OpenSlide(slide) as handle:
        for row in chosen:
            region = handle.read_region(tuple(coords[row].tolist()), stored_level, (side, side))
            white = np.full((side, side, 3), 255, np.float64)
            rgba = np.asarray(region).astype(np.float64)
            alpha = rgba[..., 3:] / 255
            pixels = np.rint(rgba[..., :3] * alpha + white * (1 - alpha)).astype(np.uint8)
            found = session.run(None, {name: pixels[None]})[0][0]
            worst = max(worst, float(np.abs(found - probability[row]).max()))
    return worst


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_few_lines_give_the_same_probabilities(level: int, slide: Path, pyramid_run: Path, model: Path) -> None:
    assert worst_difference(slide, pyramid_run, model, level, tiles=100) <= 1e-5


@pytest.mark.real
@pytest.mark.mpi
@pytest.mark.parametrize(
    ("name", "options"),
    [("BS9-HE2.tif", []), ("insidious-lymph-node-metastasis-HE.tif", ["--mpp", "0.25"])],
    ids=["biopsy", "lymph node"],
)
def test_also_on_real_slides(name: str, options: list[str], model: Path, tmp_path: Path) -> None:
    # a third of the tiles, from all over the slide
    path, part = real_slide(name), ["--mode", "exhaustive", "--part", "2/3"]
    assert pyramidai(path, "-o", tmp_path / "out.h5", *options, *part, ranks=2).returncode == 0
    result = tmp_path / "out.part-2-of-3.h5"
    for level in (0, 1, 2):
        assert worst_difference(path, result, model, level, tiles=100) <= 1e-5
