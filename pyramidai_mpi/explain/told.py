"""Whether a method can be told what it is told; free of numpy, for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.explain.methods import Fill

if TYPE_CHECKING:
    from pyramidai_mpi.base.explain_order import ExplainOrder
    from pyramidai_mpi.explain.methods import Method


def check_told(method: Method, order: ExplainOrder) -> None:
    """See that a method can be told what is asked.

    Raises
    ------
    UsageError
        When it cannot.
    """
    if order.masks is not None and not method.draws:
        raise UsageError(f"--masks {order.masks}: method {method.name} draws no masks; take --method rise or lime")
    if order.until is not None and not method.draws:
        raise UsageError(f"--until {order.until:g}: method {method.name} draws no masks; take --method rise or lime")
    if order.layer and not method.has_layer:
        raise UsageError(f"--layer {order.layer}: method {method.name} looks at no layer; take gradcam or gradcam++")
    if order.fill not in list(Fill):
        raise UsageError(f"--fill {order.fill}: expected {', '.join(Fill)}")
    method.settings(order.asked)
