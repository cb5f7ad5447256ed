"""Options of every command that reads ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyramidai_mpi.truth.truth import TruthOptions


def truth_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options to a command, as ``tumor_class``, ``exclude_class`` and ``mask_value``."""
    options: list[Any] = [
        click.option(
            "--tumor-class", multiple=True, metavar="NAME", help="Class of outlines that is tumour. Repeatable."
        ),
        click.option(
            "--exclude-class", multiple=True, metavar="NAME", help="Class that is cut out of tumour. Repeatable."
        ),
        click.option("--mask-value", type=int, metavar="N", help="Tumour in label masks.  [default: all above 0]"),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def parse_truth_options(
    tumor_class: Sequence[str], exclude_class: Sequence[str], mask_value: int | None
) -> TruthOptions:
    """What the options say.

    Raises
    ------
    UsageError
        When a class is both.
    """
    from pyramidai_mpi.truth.outlines import ClassNames
    from pyramidai_mpi.truth.truth import TruthOptions

    return TruthOptions(ClassNames.from_caller(tumor_class, exclude_class), mask_value)
