"""Exhaustive results with their truth and the package that made them, without a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.models.package import load_package
from tests.packages import write_package
from tests.results import result_of, write_file
from tests.truth.files import feature, geojson

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Clinic:
    """Folders of results and truth, and of the package; the last slide has no tumour."""

    results: list[Path]
    truth: Path
    model: Path


def scored(result, seed: int, tumor_side: int):
    """The result with scores that know the tumour (a square at the corner) more or less."""
    rng = np.random.default_rng(seed)
    levels = {}
    for n, level in result.tree.levels.items():
        inside = ((level.index + 0.5) * 64 * 2**n < tumor_side).all(axis=1)
        score = np.clip(0.25 + 0.5 * inside + rng.normal(0, 0.2, len(inside)), 0, 1).astype(np.float32)
        decision = (score >= 0.5).astype(np.uint8)
        levels[n] = replace(level, probability=np.stack([1 - score, score], axis=1), decision=decision)
    return replace(result, tree=replace(result.tree, levels=levels), failed=result.failed[:0])


def write_case(path: Path, package: Path, k: int, tumor_side: int, mode: Mode = Mode.EXHAUSTIVE, **changes) -> Path:
    """The result of slide `k`, 20 x 20 tiles full of tissue, with other fields where the caller says so."""
    plain = result_of(np.ones((40, 40), bool), seed=k, mode=mode)
    attributes = {**plain.execution.attributes, "mode": str(mode), "min_tissue": 0.05}
    sha256 = tuple(level.sha256 for level in load_package(package).levels)
    fields = {
        "slide": replace(plain.slide, name=f"case{k}.tif", quickhash=f"{k:02d}" * 32),
        "model": replace(plain.model, level_sha256=sha256, yaml_text=(package / "model.yaml").read_text()),
        "execution": replace(plain.execution, attributes=attributes),
    }
    return write_file(path, replace(scored(plain, k, tumor_side), **(fields | changes)))


def make_clinic(folder: Path, n_slides: int = 4) -> Clinic:
    """Slides with tumours of several sizes and, last, one without."""
    model = write_package(folder / "model", thresholds=(0.5, 0.4, 0.3))
    results = []
    (folder / "results").mkdir()
    (folder / "truth").mkdir()
    for k in range(n_slides):
        side = 0 if k == n_slides - 1 else 500 + 60 * k
        results.append(write_case(folder / "results" / f"case{k}.h5", model, k, side))
        square = [[0, 0], [side, 0], [side, side], [0, side]]
        geojson(folder / "truth" / f"case{k}.geojson", *([feature([square])] if side else []))
    return Clinic(results, folder / "truth", model)
