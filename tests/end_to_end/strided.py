"""What tests of windows at a stride share: runs that are made once, and what their files say, read with h5py alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
import onnxruntime
import openslide

from pyramidai_mpi.base.types import WindowState
from pyramidai_mpi.store.results.dense import read_dense_map
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.end_to_end.conftest import pyramidai

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.pyramid.dense_map import DenseMap

WINDOW = 224
SLOWLY = REPOSITORY / "tests" / "faults" / "run_slowly.py"
UNIFORM = {16: (700, 520), 50: (1500, 1200), 112: (1500, 1200), 224: (1500, 1200)}
"""Strides, and sizes of slides on which they take no longer than a few seconds."""
STEPS = ("--stride", "28", "--stride-mode", "adaptive", "--mode", "reference")


class Made(NamedTuple):
    """Results of one slide on one rank, made when they are first asked for."""

    folder: Path
    slide: Path

    def run(self, *options: str) -> Path:
        path = self.folder / f"{'_'.join(options)}.h5"
        if not path.exists():
            assert pyramidai(self.slide, "-o", path, *options).returncode == 0
        return path


def map_in(result: Path) -> DenseMap:
    with open_result(result) as file:
        return read_dense_map(file)


def windows_in(result: Path) -> tuple[np.ndarray, np.ndarray]:
    """Level-0 corners (N, 2) of the windows of the finest stride that were looked at, and their scores (N,).

    From the tables alone, as somebody would who has read what the attributes mean.
    """
    with h5py.File(result) as file:
        group = file["levels/0"]
        if "score" not in group:
            return group["coords"][...], group["probability"][:, 1]
        stride, block = int(group.attrs["cell_px"]), int(group.attrs["block_cells"])
        first = int(group.attrs["ring_before"])
        corners, scores = [], []
        for corner, score, state in zip(group["coords"], group["score"], group["state"], strict=True):
            for row in range(block):
                for col in range(block):
                    if state[first + row, first + col] == WindowState.LOOKED:
                        corners.append(corner + stride * np.array([col, row]))
                        scores.append(score[first + row, first + col])
    return np.array(corners), np.array(scores)


def scored(slide: Path, corners: np.ndarray, model: Path) -> np.ndarray:
    """Scores of windows of level 0 by the libraries alone."""
    session = onnxruntime.InferenceSession(str(model / "level0.onnx"), providers=["CPUExecutionProvider"])
    name, found = session.get_inputs()[0].name, []
    with openslide.OpenSlide(slide) as handle:
        width, height = handle.dimensions
        for x, y in corners.tolist():
            # what lies outside the slide is white
            pixels = np.full((WINDOW, WINDOW, 3), 255, np.uint8)
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + WINDOW, width), min(y + WINDOW, height)
            there = np.asarray(handle.read_region((left, top), 0, (right - left, bottom - top)).convert("RGB"))
            pixels[top - y : bottom - y, left - x : right - x] = there
            found.append(session.run(None, {name: pixels[None]})[0][0, 1])
    return np.array(found)
