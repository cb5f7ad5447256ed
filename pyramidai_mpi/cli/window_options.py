"""The options that say how far apart windows lie."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from pyramidai_mpi.base.settings import STRIDE_MODES, Windows

if TYPE_CHECKING:
    from collections.abc import Callable


def window_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add these options; the command gets them as ``windows``, a `Windows`."""

    @wraps(function)
    def with_windows(
        *args: Any,
        stride: int | None,
        overlap: float | None,
        stride_mode: str,
        allow_approximate: bool,
        **others: Any,
    ) -> int:
        return function(*args, windows=Windows(stride, overlap, stride_mode, allow_approximate), **others)

    options: list[Any] = [
        click.option(
            "--stride",
            type=int,
            metavar="S",
            help="Score a window at every S pixels of the model's level 0: alone with --mode reference, else where the "
            "model's levels zoom in.",
        ),
        click.option(
            "--overlap",
            type=float,
            metavar="SHARE",
            help="The same as a share of the window's side: 0.5 is half a window.",
        ),
        click.option(
            "--stride-mode",
            type=click.Choice(STRIDE_MODES),
            default=STRIDE_MODES[0],
            show_default=True,
            help="window: each by itself. shared: those of a block in one pass. adaptive: coarser strides first, and "
            "closer only where scores leave doubt. adaptive-shared: this, in one pass where that costs less.",
        ),
        click.option(
            "--allow-approximate",
            is_flag=True,
            help="Take one pass for a block of windows also with networks whose answers that changes; by how much is "
            "measured, said and kept.",
        ),
    ]
    command = with_windows
    for option in reversed(options):
        command = option(command)
    return command
