"""Gradients of operators that make each value of the values at one place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.models.backward.writer import Step


def _times(slope: Callable[[Step], str]) -> Callable[[Step], None]:
    """A function of one value, by its slope."""

    def rule(step: Step) -> None:
        step.give(0, step.writer.node("Mul", step.dy, slope(step)))

    return rule


def _where(step: Step, condition: str, otherwise: str | float = 0.0) -> str:
    """The gradient where a condition holds, else something else."""
    writer = step.writer
    other = writer.constant(otherwise) if isinstance(otherwise, float) else otherwise
    return writer.node("Where", condition, step.dy, other)


def relu(step: Step) -> None:
    """Nothing at 0, as in torch."""
    # of values that are not negative the sign is 1 or 0; quicker than a comparison and a choice
    step.give(0, step.writer.node("Mul", step.dy, step.writer.node("Sign", step.y)))


def leaky_relu(step: Step) -> None:
    """The lower slope at 0."""
    writer = step.writer
    low = writer.node("Mul", step.dy, writer.constant(step.said("alpha", 0.01)))
    step.give(0, _where(step, writer.node("Greater", step.x, writer.constant(0.0)), low))


def prelu(step: Step) -> None:
    """As `leaky_relu`, its slopes stored."""
    step.constant(1)
    writer = step.writer
    low = writer.node("Mul", step.dy, step.node.input[1])
    step.give(0, _where(step, writer.node("Greater", step.x, writer.constant(0.0)), low))


def elu(step: Step) -> None:
    """Below 0 the value plus alpha."""
    writer = step.writer
    alpha = writer.constant(step.said("alpha", 1.0))
    low = writer.node("Mul", step.dy, writer.node("Add", step.y, alpha))
    step.give(0, _where(step, writer.node("Greater", step.x, writer.constant(0.0)), low))


def clip(step: Step) -> None:
    """Nothing at and beyond the bounds, as torch's hardtanh and ReLU6 have it."""
    writer = step.writer
    found = step.dy
    for number, comparison in ((1, "Greater"), (2, "Less")):
        if step.has(number):
            step.constant(number)
            inside = writer.node(comparison, step.x, step.node.input[number])
            found = writer.node("Where", inside, found, writer.constant(0.0))
    step.give(0, found)


def add(step: Step) -> None:
    """Both take all."""
    for number in (0, 1):
        if step.wants(number):
            step.give_broadcast(number, step.dy)


def subtract(step: Step) -> None:
    """The second takes it negated."""
    if step.wants(0):
        step.give_broadcast(0, step.dy)
    if step.wants(1):
        step.give_broadcast(1, step.writer.node("Neg", step.dy))


def multiply(step: Step) -> None:
    """Each takes it times the other."""
    first, second = step.node.input
    for number, other in ((0, second), (1, first)):
        if step.wants(number):
            step.give_broadcast(number, step.writer.node("Mul", step.dy, other))


def divide(step: Step) -> None:
    """Of a / b: 1 / b, and - (a / b) / b."""
    writer, divisor = step.writer, step.node.input[1]
    share = writer.node("Div", step.dy, divisor)
    if step.wants(0):
        step.give_broadcast(0, share)
    if step.wants(1):
        step.give_broadcast(1, writer.node("Neg", writer.node("Mul", share, step.y)))


def sum_of_all(step: Step) -> None:
    """All take all."""
    for number in range(len(step.node.input)):
        if step.wants(number):
            step.give_broadcast(number, step.dy)


def extreme(step: Step) -> None:
    """Of Max and Min: who gave the value takes it; who share it take equal parts, as torch's maximum has it."""
    writer = step.writer
    is_it = [
        writer.node("Cast", writer.node("Equal", name, step.y), to=1)  # 1 is float32
        for name in step.node.input
    ]
    share = writer.node("Div", step.dy, writer.total(is_it))
    for number, mask in enumerate(is_it):
        if step.wants(number):
            step.give_broadcast(number, writer.node("Mul", share, mask))


def power(step: Step) -> None:
    """Of a to the b: b a^(b-1), and of b, a > 0: a^b log a."""
    writer = step.writer
    base, exponent = step.node.input
    if step.wants(0):
        less = writer.node("Sub", exponent, writer.constant(1.0))
        slope = writer.node("Mul", exponent, writer.node("Pow", base, less))
        step.give_broadcast(0, writer.node("Mul", step.dy, slope))
    if step.wants(1):
        slope = writer.node("Mul", step.y, writer.node("Log", base))
        step.give_broadcast(1, writer.node("Mul", step.dy, slope))


def where(step: Step) -> None:
    """Each takes it where it was taken from."""
    writer, condition = step.writer, step.node.input[0]
    zero = writer.constant(0.0)
    if step.wants(1):
        step.give_broadcast(1, writer.node("Where", condition, step.dy, zero))
    if step.wants(2):
        step.give_broadcast(2, writer.node("Where", condition, zero, step.dy))


def unchanged(step: Step) -> None:
    """Of what passes values on."""
    step.give(0, step.dy)


def negate(step: Step) -> None:
    """Of - a."""
    step.give(0, step.writer.node("Neg", step.dy))


def nothing(step: Step) -> None:
    """Of steps: they are flat wherever they have a slope."""


def _sigmoid_slope(step: Step) -> str:
    writer = step.writer
    return writer.node("Mul", step.y, writer.node("Sub", writer.constant(1.0), step.y))


def _tanh_slope(step: Step) -> str:
    writer = step.writer
    return writer.node("Sub", writer.constant(1.0), writer.node("Mul", step.y, step.y))


def _erf_slope(step: Step) -> str:
    return _bell(step, step.x, 2 / math.sqrt(math.pi), 1.0)


def _bell(step: Step, x: str, height: float, steepness: float) -> str:
    """``height * exp(-steepness * x^2)``."""
    writer = step.writer
    exponent = writer.node("Mul", writer.node("Mul", x, x), writer.constant(-steepness))
    return writer.node("Mul", writer.node("Exp", exponent), writer.constant(height))


def _exp_slope(step: Step) -> str:
    return step.y


def _log_slope(step: Step) -> str:
    return step.writer.node("Reciprocal", step.x)


def _sqrt_slope(step: Step) -> str:
    writer = step.writer
    return writer.node("Div", writer.constant(0.5), step.y)


def _reciprocal_slope(step: Step) -> str:
    writer = step.writer
    return writer.node("Neg", writer.node("Mul", step.y, step.y))


def _absolute_slope(step: Step) -> str:
    return step.writer.node("Sign", step.x)


def _sigmoid_of(step: Step, x: str) -> str:
    return step.writer.node("Sigmoid", x)


def _softplus_slope(step: Step) -> str:
    return _sigmoid_of(step, step.x)


def _swish_slope(step: Step) -> str:
    """Of x s(ax): s + ax s (1 - s)."""
    writer = step.writer
    scaled = writer.node("Mul", step.x, writer.constant(step.said("alpha", 1.0)))
    share = _sigmoid_of(step, scaled)
    rest = writer.node("Sub", writer.constant(1.0), share)
    inner = writer.node("Add", writer.node("Mul", scaled, rest), writer.constant(1.0))
    return writer.node("Mul", share, inner)


def _mish_slope(step: Step) -> str:
    """Of x t, t = tanh(softplus(x)): t + x s (1 - t^2)."""
    writer = step.writer
    t = writer.node("Tanh", writer.node("Softplus", step.x))
    rest = writer.node("Sub", writer.constant(1.0), writer.node("Mul", t, t))
    inner = writer.node("Mul", writer.node("Mul", step.x, _sigmoid_of(step, step.x)), rest)
    return writer.node("Add", t, inner)


def _inside(step: Step, low: float, high: float) -> str:
    """1 strictly between two bounds of the input, else 0."""
    writer = step.writer
    above = writer.node("Greater", step.x, writer.constant(low))
    below = writer.node("Less", step.x, writer.constant(high))
    return writer.node("Cast", writer.node("And", above, below), to=1)


def _hard_sigmoid_slope(step: Step) -> str:
    alpha, beta = step.said("alpha", 0.2), step.said("beta", 0.5)
    writer = step.writer
    low, high = sorted((-beta / alpha, (1 - beta) / alpha))
    return writer.node("Mul", _inside(step, low, high), writer.constant(alpha))


def _hard_swish_slope(step: Step) -> str:
    """Of x clip(x / 6 + 1/2, 0, 1): the clipped part, and x / 6 strictly inside."""
    writer = step.writer
    share = writer.node("HardSigmoid", step.x, alpha=1 / 6, beta=0.5)
    inner = writer.node("Mul", writer.node("Mul", step.x, writer.constant(1 / 6)), _inside(step, -3.0, 3.0))
    return writer.node("Add", share, inner)


def _gelu_slope(step: Step) -> str:
    """Of x F(x): F + x F', F being the normal distribution or its approximation by tanh."""
    writer = step.writer
    half, one = writer.constant(0.5), writer.constant(1.0)
    if step.said("approximate", "none") == "tanh":
        factor, cubic = math.sqrt(2 / math.pi), 0.044715
        square = writer.node("Mul", step.x, step.x)
        inner = writer.node("Add", writer.node("Mul", square, writer.constant(factor * cubic)), writer.constant(factor))
        t = writer.node("Tanh", writer.node("Mul", step.x, inner))
        rest = writer.node("Sub", one, writer.node("Mul", t, t))
        steep = writer.node(
            "Add", writer.node("Mul", square, writer.constant(3 * factor * cubic)), writer.constant(factor)
        )
        density = writer.node("Mul", writer.node("Mul", rest, steep), half)
    else:
        t = writer.node("Erf", writer.node("Mul", step.x, writer.constant(1 / math.sqrt(2))))
        density = _bell(step, step.x, 1 / math.sqrt(2 * math.pi), 0.5)
    share = writer.node("Mul", writer.node("Add", t, one), half)
    return writer.node("Add", share, writer.node("Mul", step.x, density))


def _softsign_slope(step: Step) -> str:
    writer = step.writer
    below = writer.node("Add", writer.node("Abs", step.x), writer.constant(1.0))
    return writer.node("Reciprocal", writer.node("Mul", below, below))


RULES: dict[str, Callable[[Step], None]] = {
    "Relu": relu,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Elu": elu,
    "Clip": clip,
    "Add": add,
    "Sub": subtract,
    "Mul": multiply,
    "Div": divide,
    "Sum": sum_of_all,
    "Max": extreme,
    "Min": extreme,
    "Pow": power,
    "Where": where,
    "Identity": unchanged,
    "Dropout": unchanged,
    "Cast": unchanged,
    "Neg": negate,
    "Floor": nothing,
    "Ceil": nothing,
    "Round": nothing,
    "Sign": nothing,
    "Sigmoid": _times(_sigmoid_slope),
    "Tanh": _times(_tanh_slope),
    "Erf": _times(_erf_slope),
    "Exp": _times(_exp_slope),
    "Log": _times(_log_slope),
    "Sqrt": _times(_sqrt_slope),
    "Reciprocal": _times(_reciprocal_slope),
    "Abs": _times(_absolute_slope),
    "Softplus": _times(_softplus_slope),
    "Softsign": _times(_softsign_slope),
    "Swish": _times(_swish_slope),
    "Mish": _times(_mish_slope),
    "HardSigmoid": _times(_hard_sigmoid_slope),
    "HardSwish": _times(_hard_swish_slope),
    "Gelu": _times(_gelu_slope),
}
"""What each operator's first input and its others are given."""
