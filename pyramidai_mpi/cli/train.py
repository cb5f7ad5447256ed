"""``pyramidai train``: a model package from annotated slides, or from files of labelled patches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pyramidai_mpi.base.extras import require_extra
from pyramidai_mpi.cli.command_line import recorded_command
from pyramidai_mpi.cli.train_config import config_option
from pyramidai_mpi.cli.train_options import PATH, fit_options, network_options, split_options
from pyramidai_mpi.cli.training_session import train_on_ranks, training_options
from pyramidai_mpi.training.architectures import check_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.cli.train_options import NetworkChoice, SplitChoice
    from pyramidai_mpi.cli.training_session import TrainingOrder
    from pyramidai_mpi.training.fit_settings import FitSettings


@click.command("train")
@click.argument("slides", nargs=-1, required=True, type=PATH, metavar="SLIDE...")
@click.option("--truth", type=PATH, metavar="DIR", help="Annotations, one file a slide.")
@click.option(
    "--patches",
    is_flag=True,
    help="Instead of --truth: the SLIDEs are files of labelled patches, or folders of them. A network of one level, of "
    "their size and µm per pixel.",
)
@click.option(
    "--positive-label",
    metavar="NAME",
    help="Of --patches; all others are negative.  [default: tumor, or of two the second]",
)
@split_options
@click.option(
    "--tiles", type=click.IntRange(1), default=200, show_default=True, help="Most per slide, level and class."
)
@click.option("--levels", type=click.IntRange(1, 15), default=3, show_default=True)
@click.option("--base-mpp", type=click.FloatRange(0, min_open=True), default=0.25, show_default=True)
@click.option("--mpp", type=click.FloatRange(0, min_open=True), help="µm per pixel of slides that do not say.")
@click.option(
    "--min-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Tumour's share of a positive tile's tissue.",
)
@click.option(
    "--stain",
    type=click.Choice(["none", "macenko", "reinhard"]),
    default="none",
    show_default=True,
    help="Normalises stain, in training and by the package.",
)
@click.option(
    "--stain-per",
    type=click.Choice(["slide", "tile"]),
    default="slide",
    show_default=True,
    help="Estimates it once a slide, or of each tile by itself; tiles where it cannot be are left out.",
)
@click.option(
    "--stain-target",
    type=PATH,
    metavar="SLIDE",
    help="Whose colours all slides get.  [default: Macenko's own; for reinhard the first slide trained on]",
)
@network_options
@fit_options
@click.option(
    "--device", default="auto", show_default=True, help="torch's name, such as cpu, or cuda:0 on a single rank."
)
@training_options
@config_option
def command(
    slides: tuple[Path, ...],
    truth: Path | None,
    patches: bool,
    positive_label: str | None,
    splitting: SplitChoice,
    tiles: int,
    levels: int,
    base_mpp: float,
    mpp: float | None,
    min_share: float,
    stain: str,
    stain_per: str,
    stain_target: Path | None,
    network: NetworkChoice,
    fitting: Callable[[int, str], FitSettings],
    device: str,
    order: TrainingOrder,
) -> int:
    """Train one network a level on annotated SLIDEs, or on files of labelled patches, and write a package.

    Any number of MPI ranks comes to the same weights. By patient, 60 % are to train, 20 % to choose the best epoch and
    20 % to test; or see --folds and --leave-centre-out.
    """
    from pyramidai_mpi.base.errors import UsageError

    if len({slide.resolve() for slide in slides}) < len(slides):
        raise UsageError("a slide is named twice; it could train and test at once")
    _check_options(patches=patches, truth=truth)
    if stain_target is not None and stain == "none":
        raise UsageError("--stain-target needs --stain macenko or reinhard")
    if stain_per != "slide" and stain == "none":
        raise UsageError(f"--stain-per {stain_per} needs --stain macenko or reinhard")
    if splitting.is_crossed and stain == "reinhard" and stain_target is None:
        raise UsageError("--stain reinhard needs a --stain-target here, as each fold has another first slide")
    require_extra("train", "training")
    check_weights(network.arch, network.weights)
    settings_on = partial(fitting, order.seed)
    settings_on("cpu")  # says now what does not fit
    from pyramidai_mpi.cli.train_run import TrainingRequest, train
    from pyramidai_mpi.cli.training_line import TrainingLine

    request = TrainingRequest(
        slides,
        truth,
        positive_label,
        tiles,
        levels,
        base_mpp,
        mpp,
        min_share,
        stain,
        stain_per,
        stain_target,
        device,
        recorded_command(click.get_current_context()),
        order,
        network,
        splitting,
        settings_on,
    )
    with TrainingLine(quiet=order.quiet) as line:
        return train_on_ranks(order, partial(train, request, line), line.show)


_OF_SLIDES = (
    "truth", "levels", "base_mpp", "mpp", "min_share", "stain", "stain_per", "stain_target", "from_finer", "origin",
)  # fmt: skip
_OF_PATCHES = ("positive_label", "split", "fold")
_WAYS_TO_SPLIT = ("split", "folds", "leave_centre_out")


def _check_options(*, patches: bool, truth: Path | None) -> None:
    """See that options of slides and of patches are not mixed."""
    from pyramidai_mpi.base.errors import UsageError

    context = click.get_current_context()

    def is_given(name: str) -> bool:
        given = context.get_parameter_source(name)
        return given in {ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP}

    for name in _OF_SLIDES if patches else _OF_PATCHES:
        if is_given(name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is for {'annotated slides' if patches else 'files of patches, with --patches'}")
    ways = [f"--{name.replace('_', '-')}" for name in _WAYS_TO_SPLIT if is_given(name)]
    if len(ways) > 1:
        raise UsageError(f"{' and '.join(ways)}: each says what trains and what tests; give one")
    if truth is None and not patches:
        raise UsageError("Missing option '--truth', or --patches for files of labelled patches")
