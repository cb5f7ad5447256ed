"""Arguments and options of the commands that read results and ground truth, each defined once."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = click.Path(path_type=Path, readable=False)

RESULTS = click.argument("results", type=PATH, nargs=-1, required=True, metavar="RESULT.h5...")

TRUTH = click.option("--truth", type=PATH, required=True, metavar="DIR", help="Annotations, one file a slide.")

MIN_SHARE = click.option(
    "--min-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Share of a tile's tissue that is tumour, from which the tile is positive.",
)


def truth_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say how truth is read; the command gets them as ``options``, a `TruthOptions`."""

    @wraps(function)
    def with_truth_options(
        *args: Any, tumor_class: tuple[str, ...], exclude_class: tuple[str, ...], mask_value: int | None, **others: Any
    ) -> int:
        from pyramidai_mpi.truth.outlines import ClassNames
        from pyramidai_mpi.truth.truth import TruthOptions

        read_as = TruthOptions(ClassNames.from_caller(tumor_class, exclude_class), mask_value)
        return function(*args, options=read_as, **others)

    options: list[Any] = [
        click.option(
            "--tumor-class", multiple=True, metavar="NAME", help="Class of outlines that is tumour. Repeatable."
        ),
        click.option(
            "--exclude-class", multiple=True, metavar="NAME", help="Class that is cut out of tumour. Repeatable."
        ),
        click.option("--mask-value", type=int, metavar="N", help="Tumour in label masks.  [default: all above 0]"),
    ]
    command = with_truth_options
    for option in reversed(options):
        command = option(command)
    return command
