"""``pyramidai train-whole``: a network that segments, from the exact gradients of whole slides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.extras import require_extra
from pyramidai_mpi.base.intended_use import IntendedUse
from pyramidai_mpi.cli.command_line import recorded_command
from pyramidai_mpi.cli.launcher import launched_rank
from pyramidai_mpi.cli.training_session import TrainingOrder, train_on_ranks, training_options
from pyramidai_mpi.training.whole.architectures import UNET, WHOLE_ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.exact.loop import TrainingProgress

_PATH = click.Path(path_type=Path, readable=False)
_RECIPE = "tissue-recipe"
_SIZE = re.compile(r"(\d{1,7})x(\d{1,7})")


@click.command("train-whole")
@click.argument("slides", nargs=-1, type=_PATH, metavar="SLIDE...")
@click.option(
    "--masks",
    required=True,
    metavar=f"DIR|{_RECIPE}",
    help="Masks or outlines, one file a slide, named after it: PNG, TIFF, GeoJSON, ASAP's XML. Or the paper's recipe, "
    "which takes what is darker than glass for tissue.",
)
@click.option(
    "--crop",
    default="64000x16000",
    show_default=True,
    metavar="WIDTHxHEIGHT|whole",
    help="What a step sees of a larger slide, in pixels; smaller slides are taken whole.",
)
@click.option(
    "--mpp",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="µm per pixel to train at.  [default: --level 0]",
)
@click.option("--level", type=click.IntRange(0), metavar="N", help="Stored level to train at.  [default: 0]")
@click.option(
    "--slide-mpp", type=click.FloatRange(0, min_open=True), metavar="X", help="µm per pixel of slides that do not say."
)
@click.option(
    "--mask-class",
    multiple=True,
    metavar="NAME",
    help="Class of outlines to be found. Repeatable.  [default: tissue]",
)
@click.option("--mask-value", type=int, metavar="N", help="Value of TIFF masks to be found.  [default: all above 0]")
@click.option(
    "--network",
    default=UNET.name,
    show_default=True,
    metavar="NAME|MODULE:FUNCTION",
    help=f"{'; '.join(f'{one.name}: {one.help}' for one in WHOLE_ARCHITECTURES)}; or a function of your own Python "
    "that gives a network without layers over the whole image.",
)
@click.option(
    "--block",
    default="2048x1024",
    show_default=True,
    metavar="WIDTHxHEIGHT",
    help="Pixels computed at a time, which decides a rank's memory.",
)
@click.option("--epochs", type=click.IntRange(1), default=100, show_default=True, help="At most.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Of an epoch.  [default: one a slide]")
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Stop after so many epochs without a better Dice; 0 for never.",
)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the slides held out to choose the best epoch by; at least one.",
)
@click.option(
    "--intended-use",
    type=click.Choice([use.value for use in IntendedUse if use is not IntendedUse.BENCHMARK]),
    help="What the model may be used for, for its package: demonstration where the slides are generated.  "
    "[default: not said]",
)
@training_options
def command(
    slides: tuple[Path, ...],
    masks: str,
    crop: str,
    mpp: float | None,
    level: int | None,
    slide_mpp: float | None,
    mask_class: tuple[str, ...],
    mask_value: int | None,
    network: str,
    block: str,
    epochs: int,
    steps: int | None,
    patience: int,
    learning_rate: float,
    validation: float,
    intended_use: str | None,
    order: TrainingOrder,
) -> int:
    """Train a small network on whole SLIDEs, each step on one, with the exact gradient of all its pixels.

    An image is computed in blocks with what they depend on around them, by any rank each: memory does not grow with it,
    and any number of ranks comes to the same weights. The package is for `segment` and for `run --tissue`.
    """
    if mpp is not None and level is not None:
        raise UsageError("--mpp and --level both say which pixels; give one")
    wanted_crop = None if crop == "whole" else _size(crop, "--crop", "; or whole")
    wanted_block = _size(block, "--block")
    if masks == _RECIPE and (mask_class or mask_value is not None):
        raise UsageError(f"--mask-class and --mask-value are for a folder of masks, not for {_RECIPE}")
    require_extra("train", "training")
    from pyramidai_mpi.cli.training_line import TrainingLine
    from pyramidai_mpi.run.selection import select_slides
    from pyramidai_mpi.training.whole.fitting import WholeSettings
    from pyramidai_mpi.training.whole.keeping import ImageOrder
    from pyramidai_mpi.training.whole.training import WholePlaces, WholeRequest, train_whole

    images = ImageOrder(
        None if masks == _RECIPE else Path(masks), level or 0, mpp, slide_mpp, mask_class or ("tissue",), mask_value
    )
    settings = WholeSettings(epochs, steps or 0, patience, wanted_crop, wanted_block, learning_rate, order.seed)
    made_by = recorded_command(click.get_current_context())

    def request() -> WholeRequest:
        chosen = tuple(entry.slide for entry in select_slides(slides, None).entries)
        if len({slide.resolve() for slide in chosen}) < len(chosen):
            raise UsageError("a slide is named twice; it could be learnt from and held out at once")
        return WholeRequest(chosen, validation, images, network, settings, intended_use, made_by)

    with TrainingLine(quiet=order.quiet or launched_rank() != 0) as line:

        def train(pool: UnitPool, attempt: TrainingOrder, show: Callable[[TrainingProgress], None] | None) -> int:
            # after a loss of ranks an attempt resumes; the package may still replace another
            places = WholePlaces(
                order.output,
                order.work,
                attempt.resume,
                attempt.overwrite,
                order.save_every_s,
                order.overwrite,
                attempt.check_work,
            )
            train_whole(
                pool,
                pool.on_all(request),
                places,
                show=show,
                began=lambda epochs, steps, done: line.begin("", epochs, steps, done),
                phase=line.phase,
                say=line.say,
            )
            return 0

        return train_on_ranks(order, train, line.show)


def _size(text: str, option: str, other: str = "") -> tuple[int, int]:
    """Width and height of a text such as ``64000x16000``.

    Raises
    ------
    UsageError
        It is none.
    """
    match = _SIZE.fullmatch(text)
    if match is None or not all(map(int, match.groups())):
        raise UsageError(f"{option} {text}: expected pixels across and down, such as 2048x1024{other}")
    return int(match[1]), int(match[2])
