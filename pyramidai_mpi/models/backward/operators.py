"""Rules of gradients, by the operator's name in ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.models.backward import algebra, elementwise, movement, windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.models.backward.writer import Step

RULES: dict[str, Callable[[Step], None]] = {
    **elementwise.RULES,
    **movement.RULES,
    **algebra.RULES,
    **windows.RULES,
}
"""Each is given a node whose outputs' gradients are known, and says those of its inputs."""
