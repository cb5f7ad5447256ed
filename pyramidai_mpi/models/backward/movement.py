"""Gradients of operators that put values elsewhere without changing them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from pyramidai_mpi.models.backward.writer import Shape, Step


def reshape(step: Step) -> None:
    """Back to the input's shape; of Flatten, Squeeze and Unsqueeze too."""
    step.give(0, step.writer.reshaped(step.dy, step.shape(step.x)))


def transpose(step: Step) -> None:
    """The inverse order of axes."""
    rank = len(step.shape(step.x))
    order = step.said("perm", list(range(rank))[::-1])
    step.give(0, step.writer.node("Transpose", step.dy, perm=np.argsort(order).tolist()))


def expand(step: Step) -> None:
    """Sums over what was repeated."""
    step.give_broadcast(0, step.dy)


def concat(step: Step) -> None:
    """Each its part."""
    axis = step.said("axis")
    sizes = [step.shape(name)[axis] for name in step.node.input]
    if len(sizes) == 1:
        step.give(0, step.dy)
        return
    ends = np.cumsum([0, *sizes]).tolist()
    writer = step.writer
    for number, (start, end) in enumerate(pairwise(ends)):
        if step.wants(number):
            bounds = [writer.whole(value) for value in (start, end, axis)]
            step.give(number, writer.node("Slice", step.dy, *bounds))


def split(step: Step) -> None:
    """All parts in one; zeros of those that nothing depends on."""
    writer = step.writer
    parts = [
        writer.zeros(step.shape(name)) if found is None else found
        for name, found in zip(step.node.output, step.incoming, strict=True)
    ]
    step.give(0, writer.node("Concat", *parts, axis=step.said("axis", 0)))


def slice_(step: Step) -> None:
    """Zeros around what was cut out, and between where it was every second value or the like."""
    shape, known = step.shape(step.x), step.shape(step.y)
    starts, ends = (step.constant(number).tolist() for number in (1, 2))
    axes = step.constant(3).tolist() if step.has(3) else list(range(len(starts)))
    steps = step.constant(4).tolist() if step.has(4) else [1] * len(starts)
    found = step.dy
    before, after = [0] * len(shape), [0] * len(shape)
    for start, end, axis, by in zip(starts, ends, axes, steps, strict=True):
        taken = np.arange(shape[axis])[slice_of(start, end, by)]
        axis %= len(shape)
        if by == 1 and len(taken):
            before[axis], after[axis] = int(taken[0]), shape[axis] - 1 - int(taken[-1])
        elif by != 1:
            found = _scattered(step, found, known, taken, axis, shape[axis])
            known = (*known[:axis], shape[axis], *known[axis + 1 :])
    if any(before) or any(after):
        found = step.writer.node("Pad", found, step.writer.whole(*before, *after))
    step.give(0, found)


def slice_of(start: int, end: int, by: int) -> slice:
    """What ONNX's bounds are in Python, where one backward past the first has no number."""
    most = np.iinfo(np.int32).max
    lowest = end < -most if by < 0 else False
    return slice(start, None if lowest else end, by)


def gather(step: Step) -> None:
    """Sums where the same was taken more than once; places are constant."""
    shape = step.shape(step.x)
    axis = step.said("axis", 0) % len(shape)
    taken = step.constant(1)
    known = (*shape[:axis], taken.size, *shape[axis + 1 :])
    step.give(0, _scattered(step, step.dy, known, taken.reshape(-1) % shape[axis], axis, shape[axis]))


def _scattered(step: Step, gradient: str, shape: Shape, places: npt.NDArray[np.int64], axis: int, size: int) -> str:
    """A gradient of some shape whose entry i along an axis belongs to place ``places[i]`` of `size`."""
    writer = step.writer
    chosen = np.zeros((size, len(places)), np.float32)
    chosen[places, np.arange(len(places))] = 1
    lead, rest = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    # a product with ones and zeros: what was taken more than once is summed
    product = writer.node("MatMul", writer.constant(chosen), writer.reshaped(gradient, (lead, len(places), rest)))
    return writer.reshaped(product, (*shape[:axis], size, *shape[axis + 1 :]))


def pad(step: Step) -> None:
    """What was put around is cut off, and what was cut off is zeros; copies of values go to these."""
    mode = step.said("mode", "constant")
    shape, known = step.shape(step.x), step.shape(step.y)
    rank = len(shape)
    given = step.constant(1).tolist()
    axes = step.constant(3).tolist() if step.has(3) else list(range(rank))
    pads = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        pads[axis % rank] = given[place]
        pads[axis % rank + rank] = given[place + len(axes)]
    if mode == "constant":
        step.give(0, step.writer.node("Pad", step.dy, step.writer.whole(*(-one for one in pads))))
        return
    if mode not in _COPIES or min(pads) < 0:
        raise step.no(f"with mode {mode} there is no rule")
    found = step.dy
    for axis, size in enumerate(shape):
        if known[axis] != size:
            places = np.pad(np.arange(size), (pads[axis], pads[axis + rank]), mode=_COPIES[mode])
            found = _scattered(step, found, known, places, axis, size)
            known = (*known[:axis], size, *known[axis + 1 :])
    step.give(0, found)


_COPIES: dict[str, Literal["reflect", "edge", "wrap"]] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


RULES: dict[str, Callable[[Step], None]] = {
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "Transpose": transpose,
    "Expand": expand,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Pad": pad,
}
