"""What the graph is compared with does the same work."""

from __future__ import annotations

import numpy as np
import pytest

from bench.speed.stain_cost import in_numpy, merged, neighbours_differ, with_stain
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.models.stain.map import MacenkoTarget, StainError, estimate
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


def test_neighbours_differ_by_what_their_own_normalisation_adds():
    regions = np.random.default_rng(0).integers(0, 100, (5, 48, 48, 3)).astype(np.uint8)

    def brightened(window):
        """By its corner's red: windows 16 px apart are brightened by what these pixels have."""
        assert window.shape == (32, 32, 3)
        if window[0, 0, 0] == regions[3, 0, 0, 0]:
            raise StainError("for a test")
        return window + window[0, 0, 0]

    expected = np.abs(regions[:, 0, 0, 0].astype(int) - regions[:, 0, 16, 0])
    assert neighbours_differ(regions, 32, 16, brightened) == np.delete(expected, 3).tolist()
    assert neighbours_differ(regions, 32, 16, lambda window: window // 2) == [0] * 5
    found = with_stain(regions[:, :32, :32], brightened)
    np.testing.assert_array_equal(found, np.delete(regions[:, :32, :32], 3, axis=0))
