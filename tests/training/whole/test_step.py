"""The gradient of blocks is that of the whole image, as plain autograd has it in double precision."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.training.exact.gradients import ExactGradients
from pyramidai_mpi.training.whole.blocks import Box, ImageBlocks
from pyramidai_mpi.training.whole.field import Field, field_of
from pyramidai_mpi.training.whole.images import ArrayImage, darkness_of
from pyramidai_mpi.training.whole.step import BITS, ImageStep, dice_of, place_crop
from pyramidai_mpi.training.whole.unet import WholeImageUNet
from tests.training.whole.whole_example import FIELD, PlainUNet, new_image

IMAGE = new_image(701, 613, 5)


def new_network(dtype: torch.dtype = torch.float64) -> WholeImageUNet:
    torch.manual_seed(2)
    return WholeImageUNet().to(dtype)


def flat_gradient(network: nn.Module) -> np.ndarray:
    return torch.cat([p.grad.reshape(-1) for p in network.parameters()]).double().numpy()


def plainly(network: nn.Module, image: ArrayImage, part: Box, stride: int) -> tuple[float, np.ndarray]:
    """Mean loss and gradient by one graph of the whole part, filled up with zeros to the stride."""
    network.zero_grad()
    dtype = next(network.parameters()).dtype
    height, width = (-(-side // stride) * stride for side in (part.height, part.width))
    pixels = torch.zeros(1, 1, height, width, dtype=dtype)
    pixels[0, 0, : part.height, : part.width] = torch.from_numpy(image.darkness(part).copy()).to(dtype) / 255
    logits = network(pixels)[0, 0, : part.height, : part.width]
    truth = torch.from_numpy(image.labels(part).copy()).to(dtype)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, truth)
    loss.backward()
    return loss.item(), flat_gradient(network)


def in_blocks(network: nn.Module, field: Field, block, image, part=None) -> tuple[float, np.ndarray]:
    step = ImageStep(network, field, block, image, part)
    sums = ExactGradients({"network": network}, BITS, "block").of_step(UnitPool(), len(step.blocks), step.loss)
    return sums.mean, flat_gradient(network)


def off_by(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_the_network_has_as_many_parameters_as_the_papers() -> None:
    assert sum(parameter.numel() for parameter in WholeImageUNet().parameters()) == 4492


@pytest.mark.parametrize("block", [(160, 96), (704, 256)], ids=str)
def test_blocks_have_the_gradient_of_the_whole_image(block) -> None:
    network = new_network()
    loss, expected = plainly(PlainUNet(copy.deepcopy(network)), IMAGE, Box(0, 0, *IMAGE.size), 32)
    found_loss, found = in_blocks(network, FIELD, block, IMAGE)
    assert found_loss == pytest.approx(loss, rel=1e-10)
    assert off_by(found, expected) < 1e-10


def test_a_crop_is_an_image_of_its_own() -> None:
    part = Box(37, 101, 37 + 450, 101 + 333)
    network = new_network()
    _, expected = plainly(PlainUNet(copy.deepcopy(network)), IMAGE, part, 32)
    assert off_by(in_blocks(network, FIELD, (128, 128), IMAGE, part)[1], expected) < 1e-10


def test_a_halo_that_is_too_small_is_seen_by_these_tests() -> None:
    network = new_network()
    _, expected = plainly(PlainUNet(copy.deepcopy(network)), IMAGE, Box(0, 0, *IMAGE.size), 32)
    assert off_by(in_blocks(network, Field(32, 96), (128, 128), IMAGE)[1], expected) > 1e-8


def test_single_precision_in_blocks_is_nearer_to_the_truth_than_one_graph() -> None:
    network = new_network(torch.float32)
    _, expected = plainly(PlainUNet(copy.deepcopy(network).double()), IMAGE, Box(0, 0, *IMAGE.size), 32)
    _, plain = plainly(PlainUNet(copy.deepcopy(network)), IMAGE, Box(0, 0, *IMAGE.size), 32)
    found = in_blocks(network, FIELD, (256, 256), IMAGE)[1]
    assert off_by(found, expected) < 0.2 * off_by(plain, expected)


def test_any_other_network_is_computed_in_blocks_too() -> None:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 5, 3, 2), nn.GELU(), nn.Conv2d(4, 3, 3, 1, 1, padding_mode="reflect"), nn.Tanh(),
        nn.Upsample(scale_factor=3, mode="bilinear"), nn.Conv2d(3, 1, 3, 1, 1),
    ).double()  # fmt: skip
    field = field_of(network, "mine")
    assert field.total_stride == 3
    _, expected = plainly(copy.deepcopy(network), IMAGE, Box(0, 0, *IMAGE.size), 3)
    assert off_by(in_blocks(network, field, (99, 150), IMAGE)[1], expected) < 1e-10


def test_blocks_cover_the_image_once_and_see_their_halo_within_the_padded_image() -> None:
    blocks = ImageBlocks((701, 613), (160, 96), 32, 128)
    covered = np.zeros((613, 701), int)
    for number in range(len(blocks)):
        own, seen = blocks.own(number), blocks.seen(number)
        covered[own.top : own.bottom, own.left : own.right] += 1
        assert all(side % 32 == 0 for side in (seen.left, seen.top, seen.right, seen.bottom))
        assert (seen.left, seen.top) == (max(own.left - 128, 0), max(own.top - 128, 0))
        assert seen.right == min(-(-own.right // 32) * 32 + 128, 704)
        assert seen.bottom == min(-(-own.bottom // 32) * 32 + 128, 640)
    assert (covered == 1).all()


def test_dice_is_counted_over_whole_images() -> None:
    network = new_network(torch.float32)
    images = [
        IMAGE,
        new_image(300, 200, 8),
        ArrayImage("empty", np.zeros((40, 50), np.uint8), np.zeros((40, 50), bool)),
    ]
    with torch.no_grad():
        network.out.bias.fill_(-0.05)
    found = dice_of(UnitPool(), [ImageStep(network, FIELD, (224, 128), image) for image in images])
    for dice, image in zip(found, images, strict=True):
        height, width = (-(-side // 32) * 32 for side in image.dark.shape)
        pixels = torch.zeros(1, 1, height, width)
        pixels[0, 0, : image.size[1], : image.size[0]] = torch.from_numpy(image.dark) / 255
        with torch.no_grad():
            positive = (PlainUNet(network)(pixels)[0, 0] >= 0).numpy()[: image.size[1], : image.size[0]]
        both = 2 * (positive & image.marks).sum()
        assert dice == pytest.approx(both / (positive.sum() + image.marks.sum()) if positive.any() else 1.0, abs=1e-4)


def test_what_is_no_number_is_an_error_and_not_background() -> None:
    network = new_network(torch.float32)
    with torch.no_grad():
        network.out.bias.fill_(float("nan"))
    with pytest.raises(InputError, match=f"{IMAGE.name}: .* no finite numbers; .* lower --learning-rate"):
        dice_of(UnitPool(), [ImageStep(network, FIELD, (224, 128), IMAGE)])


def test_crops_hold_something_marked_and_follow_from_seed_epoch_and_step() -> None:
    marks = np.zeros((2000, 3000), bool)
    marks[1500:1600, 2900:2990] = True
    image = ArrayImage("corner", marks.astype(np.uint8), marks)
    crops = [place_crop(image, (400, 300), 1, 0, step) for step in range(40)]
    assert all(image.labels(crop).any() for crop in crops)
    assert all((crop.width, crop.height) == (400, 300) for crop in crops)
    assert all(crop.left >= 0 and crop.right <= 3000 and crop.top >= 0 and crop.bottom <= 2000 for crop in crops)
    assert len({(crop.left, crop.top) for crop in crops}) > 30
    assert crops == [place_crop(image, (400, 300), 1, 0, step) for step in range(40)]
    assert place_crop(image, (400, 300), 2, 0, 0) != crops[0]
    assert place_crop(image, (5000, 300), 1, 0, 0).width == 3000
    assert place_crop(image, None, 1, 0, 0) == Box(0, 0, 3000, 2000)


def test_darkness_is_255_minus_the_luma_of_itu_601() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(255 - luma - darkness_of(rgb)).max() < 1.0
    assert (darkness_of(np.full((2, 2, 3), 255, np.uint8)) == 0).all()
    assert (darkness_of(np.zeros((2, 2, 3), np.uint8)) == 255).all()
