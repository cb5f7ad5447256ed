"""Gradients of operators that look at windows of maps: convolutions and pools."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.models.backward.writer import Shape, Step


@dataclass(frozen=True)
class Windows:
    """Where the windows of a node lie, each field one number an axis of the maps.

    Attributes
    ----------
    kernel, strides, dilations
        As in the node.
    before
        Places that are added ahead of the maps.
    sides, found
        Of the maps that are given, and of those that are made.
    """

    kernel: Shape
    strides: Shape
    dilations: Shape
    before: Shape
    sides: Shape
    found: Shape

    @property
    def reach(self) -> Shape:
        """Places from a window's first to its last, both counted."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def covered(self) -> Shape:
        """Places from the first window's first to the last one's last."""
        return tuple((n - 1) * s + r for n, s, r in zip(self.found, self.strides, self.reach, strict=True))

    @property
    def after(self) -> Shape:
        """Places behind the maps that windows reach; negative where some of the maps are seen by none."""
        return tuple(c - b - side for c, b, side in zip(self.covered, self.before, self.sides, strict=True))


def windows_of(step: Step, kernel: Shape | None = None) -> Windows:
    """Where a node's windows lie, whichever way it says so."""
    sides, found = step.shape(step.x)[2:], step.shape(step.y)[2:]
    kernel = tuple(kernel or step.said("kernel_shape"))
    ones = [1] * len(kernel)
    strides, dilations = tuple(step.said("strides", ones)), tuple(step.said("dilations", ones))
    before = tuple(step.said("pads", [0] * 2 * len(kernel))[: len(kernel)])
    auto = step.said("auto_pad", "NOTSET")
    plain = Windows(kernel, strides, dilations, (0,) * len(kernel), sides, found)
    if auto in {"SAME_UPPER", "SAME_LOWER"}:
        more = 1 if auto == "SAME_LOWER" else 0
        before = tuple((max(behind, 0) + more) // 2 for behind in plain.after)
    elif auto == "VALID":
        before = plain.before
    return Windows(kernel, strides, dilations, before, sides, found)


def convolution(step: Step) -> None:
    """A convolution with the kernels turned, or a transposed one where it steps over places."""
    if step.wants(1) or step.wants(2):
        raise step.no("its weights depend on the pixels")
    weights = step.constant(1)
    at = windows_of(step, weights.shape[2:])
    groups = step.said("group", 1)
    turned_pads = [r - 1 - b for r, b in zip(at.reach, at.before, strict=True)]
    ends = [r - 1 - a for r, a in zip(at.reach, at.after, strict=True)]
    writer = step.writer
    if all(stride == 1 for stride in at.strides) and min(turned_pads) >= 0 and min(ends) >= 0:
        # quicker than ConvTranspose in onnxruntime, whose kernels for convolutions are the better ones
        out, inner = weights.shape[0] // groups, weights.shape[1]
        turned = weights.reshape(groups, out, inner, *at.kernel).swapaxes(1, 2)
        turned = np.flip(turned, tuple(range(3, turned.ndim))).reshape(groups * inner, out, *at.kernel)
        found = writer.node(
            "Conv", step.dy, writer.constant(turned), kernel_shape=list(at.kernel), group=groups,
            dilations=list(at.dilations), pads=[*turned_pads, *ends],
        )  # fmt: skip
        step.give(0, found)
        return
    step.give(0, _spread(step, at, step.dy, step.node.input[1], groups))


def transposed_convolution(step: Step) -> None:
    """The convolution."""
    if step.wants(1) or step.wants(2):
        raise step.no("its weights depend on the pixels")
    if step.said("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        raise step.no("with auto_pad there is no rule")
    weights = step.constant(1)
    sides, found = step.shape(step.x)[2:], step.shape(step.y)[2:]
    ones = [1] * len(sides)
    strides, dilations = step.said("strides", ones), step.said("dilations", ones)
    if step.said("output_shape") is not None:
        raise step.no("with output_shape there is no rule")
    before = step.said("pads", [0] * 2 * len(sides))[: len(sides)]
    # windows of the output, of which there are as many as places in the input
    after = [
        (n - 1) * s + d * (k - 1) + 1 - b - side
        for n, s, d, k, b, side in zip(sides, strides, dilations, weights.shape[2:], before, found, strict=True)
    ]
    writer = step.writer
    pads = [0, 0, *before, 0, 0, *after]
    padded = writer.node("Pad", step.dy, writer.whole(*pads)) if any(pads) else step.dy
    step.give(
        0,
        writer.node(
            "Conv", padded, step.node.input[1], strides=strides, dilations=dilations, group=step.said("group", 1)
        ),
    )


def _spread(step: Step, at: Windows, gradient: str, weights: str, groups: int) -> str:
    """What each window's gradient is to the maps below it, summed where windows overlap."""
    spare = tuple(max(-after, 0) for after in at.after)
    beyond = tuple(max(after, 0) for after in at.after)
    if all(s < max(stride, d) for s, stride, d in zip(spare, at.strides, at.dilations, strict=True)):
        return step.writer.node(
            "ConvTranspose", gradient, weights, strides=list(at.strides), dilations=list(at.dilations),
            pads=[*at.before, *beyond], output_padding=list(spare), group=groups,
        )  # fmt: skip
    whole = step.writer.node(
        "ConvTranspose", gradient, weights, strides=list(at.strides), dilations=list(at.dilations), group=groups
    )
    pads = [0, 0, *(-b for b in at.before), 0, 0, *(-after for after in at.after)]
    return step.writer.node("Pad", whole, step.writer.whole(*pads))


def average_pool(step: Step) -> None:
    """Each place of a window its share, which at the rims depends on what counts there."""
    writer = step.writer
    at = windows_of(step)
    shape = step.shape(step.x)
    gradient = writer.node("Mul", step.dy, _shares(step, at))
    if all(stride == 1 for stride in at.strides) and all(dilation == 1 for dilation in at.dilations):
        turned = [r - 1 - b for r, b in zip(at.reach, at.before, strict=True)]
        ends = [r - 1 - a for r, a in zip(at.reach, at.after, strict=True)]
        if min(turned) >= 0 and min(ends) >= 0:
            # sums over the windows that a place lies in; its kernel takes pads smaller than itself only
            found = writer.node(
                "AveragePool", gradient, kernel_shape=list(at.kernel), pads=[*turned, *ends], count_include_pad=1
            )
            step.give(0, writer.node("Mul", found, writer.constant(float(math.prod(at.kernel)))))
            return
    # one map at a time, as a batch: of convolutions in groups onnxruntime has no quick kernel
    apart = writer.reshaped(gradient, (shape[0] * shape[1], 1, *at.found))
    ones = writer.constant(np.ones((1, 1, *at.kernel), np.float32))
    step.give(0, writer.reshaped(_spread(step, at, apart, ones, 1), shape))


def _shares(step: Step, at: Windows) -> str:
    """One over what each window's sum is divided by, found by pooling ones by the node itself; (1, 1, *found).

    What counts beyond the rims (``count_include_pad``, ``ceil_mode``) has been understood in more ways than one.
    """
    writer = step.writer
    pooled = writer.name()
    node = type(step.node)()
    node.CopyFrom(step.node)
    node.name = ""
    del node.input[:], node.output[:]
    node.input.append(writer.constant(np.ones((1, 1, *at.sides), np.float32)))
    node.output.append(pooled)
    writer.nodes.append(node)
    counts = np.ones((1, 1), np.float64)
    for axis, side in enumerate(at.sides):
        first = np.arange(at.found[axis]) * at.strides[axis] - at.before[axis]
        places = first[:, None] + np.arange(at.kernel[axis]) * at.dilations[axis]
        inside = ((places >= 0) & (places < side)).sum(axis=1)
        counts = counts[..., None] * inside
    return writer.node("Div", pooled, writer.constant(np.maximum(counts, 1)))


def max_pool(step: Step) -> None:
    """The place of the maximum takes it all, the first of equal ones, as in torch; sums where windows overlap."""
    writer = step.writer
    shape = step.shape(step.x)
    if step.said("storage_order", 0) != 0:
        raise step.no("with storage_order 1 there is no rule")
    places = step.node.output[1] if len(step.node.output) > 1 and step.node.output[1] else ""
    if not places:
        places = writer.second_outputs.setdefault(step.y, writer.name())
    flat = writer.whole(-1)
    found = writer.node(
        "ScatterElements", writer.zeros((math.prod(shape),)), writer.node("Reshape", places, flat),
        writer.node("Reshape", step.dy, flat), axis=0, reduction="add",
    )  # fmt: skip
    step.give(0, writer.reshaped(found, shape))


def global_average_pool(step: Step) -> None:
    """Equal shares."""
    writer, shape = step.writer, step.shape(step.x)
    sides = shape[2:]
    step.give(0, writer.node("Mul", step.dy, writer.constant(np.full((1, 1, *sides), 1 / math.prod(sides)))))


def global_max_pool(step: Step) -> None:
    """As `max_pool` with one window."""
    writer, shape = step.writer, step.shape(step.x)
    rows = (shape[0], shape[1], math.prod(shape[2:]))
    first = writer.node("ArgMax", writer.reshaped(step.x, rows), axis=2, keepdims=1)
    gradient = writer.reshaped(step.dy, (*rows[:2], 1))
    found = writer.node("ScatterElements", writer.zeros(rows), first, gradient, axis=2)
    step.give(0, writer.reshaped(found, shape))


def resize(step: Step) -> None:
    """Along rows and along columns a product with the matrix that this is, found by resizing unit vectors."""
    writer, shape, found = step.writer, step.shape(step.x), step.shape(step.y)
    if len(shape) != 4 or shape[:2] != found[:2] or step.has(1) or step.said("axes") is not None:
        raise step.no("of other than the rows and columns of maps there is no rule")
    gradient = step.dy
    for axis in (2, 3):
        if step.has(2) and step.constant(2).size:
            asked = [writer.constant([1, 1, step.constant(2)[axis], 1])]
        else:
            asked = ["", writer.whole(shape[axis], 1, found[axis], 1)]
        units = writer.constant(np.eye(shape[axis]).reshape(shape[axis], 1, shape[axis], 1))
        node = type(step.node)()
        node.CopyFrom(step.node)
        node.name = ""
        del node.input[:], node.output[:]
        node.input.extend([units, "", *asked])
        node.output.append(writer.name())
        writer.nodes.append(node)
        matrix = writer.reshaped(node.output[0], (shape[axis], found[axis]))
        if axis == 2:
            gradient = writer.node("MatMul", matrix, gradient)
        else:
            gradient = writer.node("MatMul", gradient, writer.node("Transpose", matrix, perm=[1, 0]))
    step.give(0, gradient)


RULES: dict[str, Callable[[Step], None]] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "AveragePool": average_pool,
    "MaxPool": max_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "Resize": resize,
}
