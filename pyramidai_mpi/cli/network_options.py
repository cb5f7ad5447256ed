"""The options that say what is asked of the model's networks."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pyramidai_mpi.base.settings import BACKENDS, FEATURE_TYPES, PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Callable


class Networks(NamedTuple):
    """What is asked of them; fields as in `ModelChoice`."""

    positive_class: str | None
    features: bool
    feature_type: str
    encoder: Path | None
    backend: str
    precision: str
    compiled_cache: bool


def network_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add these options; the command gets them as ``networks``, a `Networks`."""

    @wraps(function)
    def with_networks(*args: Any, **others: Any) -> int:
        taken = Networks(**{name: others.pop(name) for name in Networks._fields})
        return function(*args, networks=taken, **others)

    options: list[Any] = [
        click.option(
            "--positive-class", metavar="NAME", help="Class whose probability decides.  [default: the model's]"
        ),
        click.option(
            "--features", is_flag=True, help="Keep the networks' feature vectors; an encoder's are always kept."
        ),
        click.option(
            "--feature-type",
            type=click.Choice(FEATURE_TYPES),
            default=FEATURE_TYPES[0],
            show_default=True,
            help="What feature vectors are kept in; float16 halves the file.",
        ),
        click.option(
            "--encoder",
            type=click.Path(path_type=Path, readable=False),
            metavar="DIR",
            help="Package of an encoder that gives the features of level 0, on the tiles that the model reaches.",
        ),
        click.option(
            "--backend",
            type=click.Choice(BACKENDS),
            default="onnxruntime",
            show_default=True,
            help="What runs the networks; auto: the faster one that agrees with onnxruntime within 0.001, by a "
            "measurement.",
        ),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            default="float32",
            show_default=True,
            help="Of floating-point operations; bfloat16 needs OpenVINO and a processor that has it, and changes "
            "results.",
        ),
        click.option(
            "--compiled-cache/--no-compiled-cache",
            default=True,
            show_default=True,
            help="Keep networks that were compiled and tried in ~/.cache/pyramidai, or $XDG_CACHE_HOME, for a quicker "
            "start.",
        ),
    ]
    command = with_networks
    for option in reversed(options):
        command = option(command)
    return command
