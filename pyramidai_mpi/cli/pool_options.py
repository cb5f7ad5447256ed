"""The options that commands have in common which make a file of each slide on any number of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from pyramidai_mpi.base.odd_levels import ODD_LEVELS, OWN
from pyramidai_mpi.base.settings import DEFAULT_POLICY, POLICIES, READERS

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = TypeVar("Command", bound=Callable[..., object])


odd_levels_option = click.option(
    "--odd-levels",
    type=click.Choice(ODD_LEVELS),
    default=OWN,
    show_default=True,
    help="Stored levels whose size is no whole fraction of level 0's: their own pixels, where they can be decoded; or "
    "interpolated by OpenSlide, as earlier versions did, in ten times the time. Changes results.",
)
"""How they are read, for any command that opens slides."""


def pool_options(what: str) -> Callable[[Command], Command]:
    """Options of how slides are read and work is shared, begun anew, resumed and stopped, for a command's function.

    Parameters
    ----------
    what
        What the command makes, with its article, as ``a segmentation``.
    """
    options = (
        click.option("--reader", type=click.Choice(READERS), default="auto", show_default=True, help="As of `run`."),
        odd_levels_option,
        click.option(
            "--policy",
            type=click.Choice(POLICIES),
            default=DEFAULT_POLICY,
            show_default=True,
            help="How work finds idle ranks. Does not change the result.",
        ),
        click.option("--overwrite", is_flag=True, help="Replace existing files, and begin anew."),
        click.option("--resume", is_flag=True, help=f"Go on from the journal of {what} that was stopped or killed."),
        click.option(
            "--time-limit", metavar="TIME", help="Stop a minute before this time is up, for --resume to go on."
        ),
        click.option("--ranks", metavar="N|auto", help="Start this many ranks on this machine, as with run."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors."),
    )

    def give(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return give
