"""What a network's output depends on, found by trial: its total stride and the halo that a block needs.

A network can be trained in blocks when each output pixel depends on input pixels nearby, in a way that repeats every so
many pixels. Both are seen without knowing its layers: from where gradients reach, and from whether a shifted image
gives the shifted answer.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.training.whole.blocks import ImageBlocks

if TYPE_CHECKING:
    from collections.abc import Iterator

_STRIDES = (*range(1, 13), 16, 18, 20, 24, 25, 27, 32, 36, 40, 48, 64, 80, 96, 128)
_FURTHEST = 2048
"""Pixels: a network that sees further has a layer over the whole image, or would need more halo than is sensible."""
_AGREES = 1e-9
_OFTEN_GLOBAL = (
    "Adaptive",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Attention",
    "Linear",
    "Transformer",
    "GRU",
    "LSTM",
)
_ACROSS = "so an image cannot be computed in blocks"


@dataclass(frozen=True)
class Field:
    """How a network can be cut.

    Attributes
    ----------
    total_stride
        Sides of images, and corners of blocks, are multiples of it.
    halo
        Pixels around a block that can change it at most, rounded up to a multiple of the stride.
    """

    total_stride: int
    halo: int


def field_of(network: nn.Module, name: str) -> Field:
    """Find a network's total stride and halo, and see that blocks with them give what the whole image gives.

    Parameters
    ----------
    network
        Takes (1, 1, H, W) and gives logits of the same shape; float32 or float64. It is not changed.
    name
        What the user calls it, for messages.

    Raises
    ------
    UsageError
        It cannot be trained in blocks; says why.
    """
    _refuse_by_modules(network, name)
    probe = copy.deepcopy(network).double().train()
    spread = _spread_out(probe)
    _refuse_two_answers(probe, name)
    stride = next((stride for stride in _STRIDES if _takes(probe, stride) and _repeats(spread, stride, name)), None)
    if stride is None:
        raise UsageError(
            f"--network {name}: found no total stride: of no size up to {max(_STRIDES)} do images of its multiples "
            "give a logit for each pixel, (1, 1, H, W) for (1, 1, H, W), that moves along when the image does"
        )
    found = Field(stride, _reach(spread, stride, name))
    _compare(probe, found, name)
    return found


def _refuse_by_modules(network: nn.Module, name: str) -> None:
    for where, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            reason = f"its statistics are of the whole batch, {_ACROSS}; use a network without normalisation"
        elif isinstance(module, _DropoutNd) and module.p:
            reason = f"it would drop other values in a block than in its neighbours' halos, {_ACROSS}"
        else:
            continue
        raise UsageError(f"--network {name}: has {type(module).__name__} at {where!r}: {reason}")


def _refuse_two_answers(network: nn.Module, name: str) -> None:
    image = _image(128, 128)
    with torch.no_grad():
        try:
            same = torch.equal(network(image), network(image))
        except (RuntimeError, ValueError, TypeError):  # of another size, or no tensors: seen by what follows
            return
    if not same:
        raise UsageError(f"--network {name}: gives another answer when asked again, {_ACROSS}")


def _spread_out(network: nn.Module) -> nn.Module:
    """The same layers with weights above 0, so that nothing cancels out and rectifiers let everything through."""
    spread = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in spread.parameters():
            drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5
            # about the mean of its inputs, so that no function is driven to where it is flat
            parameter.copy_(drawn / parameter[0].numel() if parameter.dim() > 1 else drawn / 10)
    return spread


def _takes(network: nn.Module, stride: int) -> bool:
    """Whether images of any multiples of a stride give a logit for each pixel."""
    least = -(-33 // stride)
    for rows, columns in ((least, least + 1), (least + 3, least + 2)):
        image = torch.zeros(1, 1, rows * stride, columns * stride, dtype=torch.float64)
        try:
            with torch.no_grad():
                found = network(image)
        except (RuntimeError, ValueError):  # torch's word for shapes that do not fit
            return False
        if not isinstance(found, torch.Tensor) or found.shape != image.shape:
            return False
    return True


def _repeats(network: nn.Module, stride: int, name: str) -> bool:
    """Whether an image shifted by a stride, either way, gives the answer shifted by it."""
    halo = _reach(network, stride, name)
    side = 2 * halo + 4 * stride
    for down, across in ((stride, 0), (0, stride)):
        image = _image(side + down, side + across)
        with torch.no_grad():
            whole, part = network(image), network(image[:, :, down:, across:])
        inner = slice(halo, side - halo)
        if _differ(whole[:, :, down:, across:][:, :, inner, inner], part[:, :, inner, inner]):
            return False
    return True


def _reach(network: nn.Module, stride: int, name: str) -> int:
    """How far from a cell of stride x stride pixels there are pixels that can change it, in whole cells."""
    return -(-max(_reach_along(network, stride, name, turned=turned) for turned in (False, True)) // stride) * stride


def _reach_along(network: nn.Module, stride: int, name: str, *, turned: bool) -> int:
    across = max(2, -(-64 // stride)) * stride
    for length in _lengths(stride):
        height, width = (across, length) if turned else (length, across)
        image = _image(height, width).requires_grad_()
        cell = length // 2 // stride * stride
        whole = network(image)
        part = whole[:, :, :, cell : cell + stride] if turned else whole[:, :, cell : cell + stride]
        weights = torch.rand(part.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
        (gradient,) = torch.autograd.grad((part * weights).sum(), image)
        reached = gradient[0, 0].abs().sum(0 if turned else 1).nonzero().flatten()
        if not len(reached):
            raise UsageError(f"--network {name}: its answer does not depend on the image")
        first, last = int(reached.min()), int(reached.max())
        if first > 0 and last < length - 1:
            return max(cell - first, last - (cell + stride - 1), 0)
    suspects = sorted(
        f"{type(module).__name__} at {where!r}"
        for where, module in network.named_modules()
        if any(word in type(module).__name__ for word in _OFTEN_GLOBAL)
    )
    hint = f" (it has {suspects[0]})" if suspects else ""
    raise UsageError(
        f"--network {name}: a pixel's logit depends on pixels {_FURTHEST} and more away{hint}: it has a layer over the "
        f"whole image, {_ACROSS}"
    )


def _lengths(stride: int) -> Iterator[int]:
    length = max(8, -(-128 // stride)) * stride
    while length < 2 * _FURTHEST:
        yield length
        length *= 2
    yield -(-2 * _FURTHEST // stride) * stride + 2 * stride


def _compare(network: nn.Module, field: Field, name: str) -> None:
    """See that blocks give what the whole image gives, up to its edges."""
    stride, halo = field.total_stride, field.halo
    size = (3 * stride + 2 * halo, 2 * stride + 2 * halo)
    image = _image(size[1], size[0])
    blocks = ImageBlocks(size, (max(halo // stride, 1) * stride, 2 * stride), stride, halo)
    with torch.no_grad():
        whole = network(image)
        for number in range(0, len(blocks), max(1, len(blocks) // 12)):
            own, seen = blocks.own(number), blocks.seen(number)
            part = network(image[:, :, seen.top : seen.bottom, seen.left : seen.right])
            place = own.shifted(-seen.left, -seen.top)
            if _differ(
                part[:, :, place.top : place.bottom, place.left : place.right],
                whole[:, :, own.top : own.bottom, own.left : own.right],
            ):
                raise UsageError(
                    f"--network {name}: a block with a halo of {halo} pixels, at a total stride of {stride}, does not "
                    f"give what the whole image gives, {_ACROSS}"
                )


def _image(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 65537 + width)
    return torch.rand(1, 1, height, width, generator=generator, dtype=torch.float64)


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() > _AGREES * max(1.0, float(other.abs().max())))
