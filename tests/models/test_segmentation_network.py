"""Networks that segment whole images: run, and tried out before they are."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.engines.segmentation_network import SegmentationNetwork
from pyramidai_mpi.models.engines.segmentation_trial import check_halo, try_segmentation_network
from tests.segmenting import DARK, STRIDED, dark_network, strided_network, write_network
from tests.tiffs import textured


def test_it_gives_a_probability_a_pixel(tmp_path):
    network = SegmentationNetwork(write_network(tmp_path / "dark", dark_network()))
    pixels = textured(50, 30)
    expected = 1 / (1 + np.exp(0.1 * (pixels.astype(float).mean(axis=-1) - DARK)))
    np.testing.assert_allclose(network.probability(pixels), expected, atol=1e-6)


def test_another_shape_than_its_package_says_is_told(tmp_path):
    network = SegmentationNetwork(write_network(tmp_path / "strided", strided_network(), total_stride=1))
    with pytest.raises(InputError, match=r"cannot be run on 50 x 30|expected float32 of \(1, 30, 50\)"):
        network.probability(textured(50, 30))


def test_a_network_that_keeps_to_its_halo_passes(tmp_path):
    try_segmentation_network(write_network(tmp_path / "strided", strided_network(), **STRIDED).folder)
    check_halo(SegmentationNetwork(write_network(tmp_path / "dark", dark_network())))


def test_a_layer_over_the_whole_image_is_refused_with_the_reason(tmp_path):
    folder = write_network(tmp_path / "global", strided_network(is_global=True), **STRIDED).folder
    with pytest.raises(InputError, match=r"its answers change by .* a layer over the whole image \(global"):
        try_segmentation_network(folder)


def test_a_halo_that_is_understated_is_refused(tmp_path):
    network = write_network(tmp_path / "short", strided_network(), total_stride=4, halo=8)
    with pytest.raises(InputError, match="more than 8 px away"):
        check_halo(SegmentationNetwork(network))
    # of a network of several strides, what is no stride of it shifts all maps
    with pytest.raises(InputError, match=r"understates halo or total_stride|cannot be run|expected float32"):
        check_halo(SegmentationNetwork(write_network(tmp_path / "odd", strided_network(), total_stride=2, halo=14)))


def test_a_stride_that_is_half_of_what_sides_must_be_multiples_of_is_seen(tmp_path, monkeypatch):
    network = SegmentationNetwork(write_network(tmp_path / "half", strided_network(), total_stride=2, halo=16))
    sides = []
    monkeypatch.setattr(network, "probability", lambda pixels: sides.append(len(pixels)) or np.zeros(pixels.shape[:2]))
    check_halo(network)
    assert sorted(side % 4 for side in sides) == [0, 2]
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"its total_stride, 2; model\.yaml may understate it|expected float32"):
        check_halo(network)


def test_what_is_no_network_is_refused(tmp_path):
    package = write_network(tmp_path / "broken", b"no network")
    with pytest.raises(InputError, match="not an ONNX file"):
        try_segmentation_network(package.folder)
    with pytest.raises(InputError, match="onnxruntime cannot load it"):
        SegmentationNetwork(package)
