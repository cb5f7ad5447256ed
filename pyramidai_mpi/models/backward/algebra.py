"""Gradients of products, sums along axes, and norms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.models.backward.writer import Shape, Step


def gemm(step: Step) -> None:
    """Of alpha A B + beta C."""
    writer = step.writer
    alpha, beta = step.said("alpha", 1.0), step.said("beta", 1.0)
    first, second = step.node.input[:2]
    turns = step.said("transA", 0), step.said("transB", 0)
    if step.wants(0):
        pair = (second, step.dy) if turns[0] else (step.dy, second)
        flips = (turns[1], 1) if turns[0] else (0, 1 - turns[1])
        step.give(0, writer.node("Gemm", *pair, transA=flips[0], transB=flips[1], alpha=alpha))
    if step.wants(1):
        pair = (step.dy, first) if turns[1] else (first, step.dy)
        flips = (1, turns[0]) if turns[1] else (1 - turns[0], 0)
        step.give(1, writer.node("Gemm", *pair, transA=flips[0], transB=flips[1], alpha=alpha))
    if step.wants(2):
        step.give_broadcast(2, writer.node("Mul", step.dy, writer.constant(beta)))


def matmul(step: Step) -> None:
    """Of A B, also of many pairs of matrices at once."""
    writer = step.writer
    names = list(step.node.input)
    shapes = [step.shape(name) for name in names]
    if min(map(len, shapes)) < 2:
        raise step.no("of a matrix and a row there is no rule")
    for number, (shape, other) in enumerate(zip(shapes, reversed(names), strict=True)):
        if not step.wants(number):
            continue
        turned = _turned(step, other)
        pair = (step.dy, turned) if number == 0 else (turned, step.dy)
        lead = np.broadcast_shapes(*(each[:-2] for each in shapes))
        step.give(number, writer.reduced_to(writer.node("MatMul", *pair), (*lead, *shape[-2:]), shape))


def _turned(step: Step, name: str) -> str:
    """Matrices with rows and columns exchanged; of constants once and for all."""
    writer = step.writer
    if writer.network.is_constant(name):
        return writer.constant(writer.network.constant(name).swapaxes(-1, -2))
    rank = len(step.shape(name))
    return writer.node("Transpose", name, perm=[*range(rank - 2), rank - 1, rank - 2])


def _axes(step: Step) -> tuple[int, ...]:
    """Axes that a node sums or the like along; none where it does nothing."""
    rank = len(step.shape(step.x))
    axes = step.constant(1).tolist() if step.has(1) else step.said("axes", [])
    if not axes and step.said("noop_with_empty_axes", 0):
        return ()
    return tuple(sorted(axis % rank for axis in axes)) or tuple(range(rank))


def _kept(step: Step) -> Shape:
    """Shape of the output with the axes that were summed along."""
    axes = _axes(step)
    return tuple(1 if axis in axes else size for axis, size in enumerate(step.shape(step.x)))


def _repeated(step: Step, gradient: str) -> str:
    """A gradient of the output, reshaped as `_kept`, for each place of the input."""
    return step.writer.node("Expand", gradient, step.writer.whole(*step.shape(step.x)))


def reduce_sum(step: Step) -> None:
    """Each place takes all."""
    step.give(0, _repeated(step, step.writer.reshaped(step.dy, _kept(step))))


def reduce_mean(step: Step) -> None:
    """Equal shares."""
    writer = step.writer
    count = math.prod(step.shape(step.x)[axis] for axis in _axes(step))
    share = writer.node("Mul", writer.reshaped(step.dy, _kept(step)), writer.constant(1 / count))
    step.give(0, _repeated(step, share))


def reduce_extreme(step: Step) -> None:
    """Of ReduceMax and ReduceMin: equal parts to all that have the value, as torch's amax has it."""
    writer, kept = step.writer, _kept(step)
    is_it = writer.node("Cast", writer.node("Equal", step.x, writer.reshaped(step.y, kept)), to=1)
    axes = _axes(step)
    count = writer.summed(is_it, axes) if axes else is_it
    share = writer.node("Div", writer.reshaped(step.dy, kept), count)
    step.give(0, writer.node("Mul", is_it, share))


def reduce_l2(step: Step) -> None:
    """Of the length y of a vector: x / y."""
    writer, kept = step.writer, _kept(step)
    share = writer.node("Div", writer.reshaped(step.dy, kept), writer.reshaped(step.y, kept))
    step.give(0, writer.node("Mul", step.x, share))


def reduce_sum_of_squares(step: Step) -> None:
    """Twice the value."""
    writer = step.writer
    twice = writer.node("Mul", writer.reshaped(step.dy, _kept(step)), writer.constant(2.0))
    step.give(0, writer.node("Mul", step.x, twice))


def softmax(step: Step) -> None:
    """Of y: y (dy - sum of dy y)."""
    writer = step.writer
    axis = step.said("axis", -1) % len(step.shape(step.x))
    total = writer.summed(writer.node("Mul", step.dy, step.y), [axis])
    step.give(0, writer.node("Mul", step.y, writer.node("Sub", step.dy, total)))


def log_softmax(step: Step) -> None:
    """Of y: dy - exp(y) times the sum of dy."""
    writer = step.writer
    axis = step.said("axis", -1) % len(step.shape(step.x))
    share = writer.node("Mul", writer.node("Exp", step.y), writer.summed(step.dy, [axis]))
    step.give(0, writer.node("Sub", step.dy, share))


def batch_normalization(step: Step) -> None:
    """A factor for each channel: its statistics are those of the training."""
    if step.said("training_mode", 0) or any(map(step.wants, range(1, 5))):
        raise step.no("its statistics depend on the pixels")
    scale, variance = step.constant(1), step.constant(4)
    rank = len(step.shape(step.x))
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + step.said("epsilon", 1e-5))
    writer = step.writer
    step.give(0, writer.node("Mul", step.dy, writer.constant(factor.reshape(1, -1, *[1] * (rank - 2)))))


def instance_normalization(step: Step) -> None:
    """Each channel by its own mean and variance."""
    shape = step.shape(step.x)
    ones = [1] * (len(shape) - 2)
    scaled = _scaled(step, (1, shape[1], *ones))
    step.give(0, _normalised(step, step.x, scaled, range(2, len(shape))))


def group_normalization(step: Step) -> None:
    """Channels in groups; a scale for each channel, or in ONNX's first version for each group."""
    writer, shape = step.writer, step.shape(step.x)
    groups = step.said("num_groups")
    scale = step.constant(1)
    if len(scale) == groups != shape[1]:
        scale = np.repeat(scale, shape[1] // groups)
    factor = writer.constant(scale.reshape(1, -1, *[1] * (len(shape) - 2)))
    _only_values(step)
    scaled = writer.node("Mul", step.dy, factor)
    rows = (shape[0], groups, math.prod(shape[1:]) // groups)
    found = _normalised(step, writer.reshaped(step.x, rows), writer.reshaped(scaled, rows), [2])
    step.give(0, writer.reshaped(found, shape))


def layer_normalization(step: Step) -> None:
    """All axes from one on together."""
    shape = step.shape(step.x)
    first = step.said("axis", -1) % len(shape)
    step.give(0, _normalised(step, step.x, _scaled(step, step.shape(step.node.input[1])), range(first, len(shape))))


def _only_values(step: Step) -> None:
    if step.wants(1) or step.wants(2):
        raise step.no("its scale or bias depends on the pixels")


def _scaled(step: Step, shape: Shape) -> str:
    """The gradient before the norm's scale, whose shape is brought to one that broadcasts."""
    _only_values(step)
    return step.writer.node("Mul", step.dy, step.writer.constant(step.constant(1).reshape(shape)))


def _normalised(step: Step, x: str, gradient: str, axes: range | list[int]) -> str:
    """Through ``n = (x - mean) / deviation``: ``(g - mean g - n mean(g n)) / deviation``."""
    writer, along = step.writer, list(axes)
    centred = writer.node("Sub", x, writer.mean(x, along))
    variance = writer.mean(writer.node("Mul", centred, centred), along)
    deviation = writer.node("Sqrt", writer.node("Add", variance, writer.constant(step.said("epsilon", 1e-5))))
    values = writer.node("Div", centred, deviation)
    level = writer.mean(gradient, along)
    slope = writer.node("Mul", values, writer.mean(writer.node("Mul", gradient, values), along))
    rest = writer.node("Sub", writer.node("Sub", gradient, level), slope)
    return writer.node("Div", rest, deviation)


RULES: dict[str, Callable[[Step], None]] = {
    "Gemm": gemm,
    "MatMul": matmul,
    "ReduceSum": reduce_sum,
    "ReduceMean": reduce_mean,
    "ReduceMax": reduce_extreme,
    "ReduceMin": reduce_extreme,
    "ReduceL2": reduce_l2,
    "ReduceSumSquare": reduce_sum_of_squares,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LayerNormalization": layer_normalization,
}
