"""What the graph is compared with does the same work."""

from __future__ import annotations

import numpy as np
import pytest

from bench.speed.stain_cost import in_numpy, merged
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.models.stain.map import MacenkoTarget, estimate
from tests.stains import REINHARD, normaliser_of, plain_macenko, plain_reinhard, stained

BOTH = pytest.mark.parametrize(
    ("target", "plain"), [(MacenkoTarget(), plain_macenko), (REINHARD, plain_reinhard)], ids=["macenko", "reinhard"]
)


@BOTH
def test_the_map_in_numpy_is_the_plain_method(target, plain):
    slide_pixels = stained()
    tile = stained(n=64 * 64, seed=2).reshape(64, 64, 3)
    found = in_numpy(estimate(slide_pixels, target))(tile)
    assert np.abs(found - plain(tile, slide_pixels, target)).max() < 1


@BOTH
def test_the_merged_network_sees_what_the_plain_method_gives(target, plain):
    slide_pixels = stained()
    tiles = stained(n=3 * 224 * 224, seed=2).reshape(3, 224, 224, 3)
    package = load_package(default_model())
    level = package.levels[0]
    found = merged(level, normaliser_of(estimate(slide_pixels, target)), 2)(tiles)
    normalised = np.rint(plain(tiles, slide_pixels, target)).astype(np.uint8)
    expected = OnnxEngine(level, package).predict(normalised)[0]
    without = OnnxEngine(level, package).predict(tiles)[0]
    assert np.abs(found - expected).max() < 0.1 * np.abs(without - expected).max()
