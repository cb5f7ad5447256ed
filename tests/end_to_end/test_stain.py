"""A package that asks for stain normalisation gets it, the same on every rank and in every kind of run."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import h5py
import numpy as np
import openslide
import pytest
import yaml

from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.stain.map import StainMap
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.stains import normaliser_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def normalising(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, asking for Macenko's normalisation."""
    folder = tmp_path_factory.mktemp("model") / "macenko"
    shutil.copytree(model, folder)
    document = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump(document | {"stain": {"method": "macenko"}}, sort_keys=False))
    return folder


def test_networks_see_normalised_pixels_on_every_rank_of_every_run(
    slide: Path, pyramid_run: Path, normalising: Path, tmp_path: Path
) -> None:
    alone, shared, folder = tmp_path / "alone.h5", tmp_path / "shared.h5", tmp_path / "both"
    folder.mkdir()
    twin = shutil.copy(slide, tmp_path / "twin.tif")
    options = ["--model", normalising]
    assert pyramidai(slide, "-o", alone, *options).returncode == 0
    assert pyramidai(slide, "-o", shared, *options, ranks=3).returncode == 0
    assert pyramidai(slide, twin, "--results-dir", folder, *options, ranks=2).returncode == 0
    digests = {digest_of(path) for path in (alone, shared, *folder.glob("*.h5"))}
    assert len(digests) == 1
    assert digests != {digest_of(pyramid_run)}
    with h5py.File(alone) as file, openslide.OpenSlide(slide) as pixels:
        assert file["model"].attrs["stain"] == "macenko"
        normalise = normaliser_of(StainMap.from_json(file["execution"].attrs["stain_map"]))
        roots = file["levels/2/coords"][:6]
        package = load_package(normalising)
        downsample = int(file["levels/2"].attrs["downsample"])
        tiles = []
        for l0_x, l0_y in roots.tolist():
            level = int(file["levels/2"].attrs["patch_level"])
            assert pixels.level_downsamples[level] == downsample
            tile = pixels.read_region((l0_x, l0_y), level, (package.tile_size, package.tile_size))
            white = np.full((package.tile_size, package.tile_size, 3), 255, np.uint8)
            there = np.asarray(tile)[..., 3:] == 255
            tiles.append(normalise(np.where(there, np.asarray(tile)[..., :3], white)))
        expected, _ = OnnxEngine(package.levels[2], package).predict(np.stack(tiles))
        np.testing.assert_array_equal(file["levels/2/probability"][:6], expected)
