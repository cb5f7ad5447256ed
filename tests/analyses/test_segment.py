"""Blocks of a slide under a network: what one pass over the whole image gives."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.analyses.segment import BlockSegmenter, blocks_of, lay_network, pack_block, unpack_block
from pyramidai_mpi.base.segment_order import SegmentOrder
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.engines.segmentation_network import SegmentationNetwork
from pyramidai_mpi.pyramid.mask_labels import UNKNOWN
from pyramidai_mpi.slides.known_pixels import grown
from pyramidai_mpi.slides.readers.choice import open_slide
from tests.segmenting import STRIDED, dark_network, strided_network, write_network
from tests.tiffs import STORED_TILE, drop_tile, textured, write_slide

WIDTH, HEIGHT = 517, 390
IMAGE = textured(WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Which sees 12 px far; its threshold cuts its probabilities in two."""
    folder = tmp_path_factory.mktemp("networks")
    first = SegmentationNetwork(write_network(folder / "first", strided_network(), **STRIDED))
    middle = float(np.median(first.probability(IMAGE[:388, :516])))
    return SegmentationNetwork(write_network(folder / "strided", strided_network(), threshold=middle, **STRIDED))


@pytest.fixture
def slide(tmp_path):
    return write_slide(tmp_path / "slide.tif", [IMAGE], mpp=1.0, compression="zlib")


def segmented(slide, network, *, block=128, downsample=1):
    """Labels and probabilities of all blocks, each in its place, and the reasons."""
    text = network.package.text
    side = SegmentOrder(downsample, block).side(text.total_stride)
    pyramid = lay_network(open_slide(slide), text, 1.0, side, SlideInput(slide))
    blocks = blocks_of(pyramid, text, side)
    segmenter = BlockSegmenter(pyramid, network, blocks, downsample)
    columns, rows = blocks.shape
    found = [[segmenter.segment(col, row) for col in range(columns)] for row in range(rows)]
    layers = [
        np.concatenate([np.concatenate([getattr(one, name) for one in line], axis=1) for line in found])
        for name in ("labels", "probability")
    ]
    return *layers, [one.reason for line in found for one in line if one.reason]


def whole_pass(network, image=IMAGE):
    """One pass over the image, filled up with white to multiples of the stride."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % 4), (0, -width % 4), (0, 0)), constant_values=255)
    return network.probability(padded)[:height, :width]


@pytest.mark.parametrize("block", [64, 128, 1024])
def test_blocks_are_the_whole_pass(slide, network, block):
    whole = whole_pass(network)
    labels, probability, reasons = segmented(slide, network, block=block)
    threshold = network.package.text.threshold
    assert 0.3 < labels.mean() < 0.7
    clear = np.abs(whole - threshold) > 1e-6
    np.testing.assert_array_equal(labels[clear], (whole >= threshold)[clear])
    assert clear.mean() > 0.999
    assert np.abs(probability.astype(float) - np.rint(255 * whole)).max() <= 1
    assert (probability != np.rint(255 * whole)).mean() < 1e-3
    assert reasons == []


def test_blocks_differ_from_the_whole_pass_by_less_than_a_millionth(slide, network, monkeypatch):
    whole, seen = whole_pass(network), []
    run = network.probability
    monkeypatch.setattr(network, "probability", lambda pixels: seen.append(run(pixels)) or seen[-1])
    segmented(slide, network)
    pyramid = lay_network(open_slide(slide), network.package.text, 1.0, 128, SlideInput(slide))
    blocks = blocks_of(pyramid, network.package.text, 128)
    columns, rows = blocks.shape
    assert len(seen) == columns * rows > 12
    for number, probability in enumerate(seen):
        row, col = divmod(number, columns)
        own = blocks.own(col, row)
        apart = probability[own.within(blocks.seen(col, row))]
        np.testing.assert_allclose(apart, whole[own.top : own.bottom, own.left : own.right], rtol=0, atol=1e-6)


def test_without_its_halo_it_would_not_be(slide, network, tmp_path):
    without = write_network(tmp_path / "no_halo", strided_network(), total_stride=4, halo=0)
    _, probability, _ = segmented(slide, SegmentationNetwork(without))
    assert np.abs(probability - np.rint(255 * whole_pass(network))).max() > 5


def test_in_larger_pixels_half_decides(slide, network):
    fine, _, _ = segmented(slide, network)
    coarse, _, _ = segmented(slide, network, downsample=3)
    assert coarse.shape == (130, 173)
    inside = fine[:390, :516].reshape(130, 3, 172, 3).sum(axis=(1, 3))
    np.testing.assert_array_equal(coarse[:, :172], 2 * inside >= 9)


def test_what_cannot_be_read_and_all_that_sees_it_is_unknown_and_nothing_else(slide, network):
    before, _, _ = segmented(slide, network)
    drop_tile(slide, 1, 1)
    labels, probability, reasons = segmented(slide, network)
    damaged = np.zeros(labels.shape, bool)
    damaged[STORED_TILE : 2 * STORED_TILE, STORED_TILE : 2 * STORED_TILE] = True
    unknown = labels == UNKNOWN
    assert unknown[grown(damaged, 12)].all()
    assert not unknown[~grown(damaged, 12 + 16 + 4)].any()
    np.testing.assert_array_equal(labels[~unknown], before[~unknown])
    assert not probability[unknown].any()
    assert len(reasons) > 1
    assert "not in the file" in reasons[0]


def test_what_is_no_number_is_unknown(slide, tmp_path):
    # white less white is no number once it is infinite
    network = SegmentationNetwork(write_network(tmp_path / "endless", dark_network(gain=float("inf"))))
    labels, _, reasons = segmented(slide, network)
    assert (labels == UNKNOWN).all()
    assert set(reasons) == {"the network's probability is no number"}


def test_blocks_are_packed_and_unpacked():
    layers = np.random.default_rng(0).integers(0, 256, (2, 30, 41), np.uint8)
    np.testing.assert_array_equal(unpack_block(pack_block(*layers), (30, 41), 2), layers)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack_block(b"damaged", (30, 41), 2)
