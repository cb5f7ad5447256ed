"""The options that say which files the hosts of a run share."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyramidai_mpi.base.hosts import Hosts

if TYPE_CHECKING:
    from collections.abc import Callable


def host_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add these options; the command gets them as ``hosts``, a `Hosts`."""

    @wraps(function)
    def with_hosts(*args: Any, own_disks: bool, send_slide: bool, scratch: Path | None, **others: Any) -> int:
        return function(*args, hosts=Hosts(own_disks, send_slide, scratch), **others)

    options: list[Any] = [
        click.option(
            "--own-disks",
            is_flag=True,
            help="Hosts share no files: each has slides, model and journals on its own disk under the same path. The "
            "result goes to rank 0's. Same result.",
        ),
        click.option(
            "--send-slide",
            is_flag=True,
            help="Besides, send slides and model from rank 0's host to those that lack them, for as long as the run "
            "takes. Implies --own-disks.",
        ),
        click.option(
            "--scratch",
            type=click.Path(path_type=Path, readable=False),
            metavar="DIR",
            help="Folder on each host for what is sent there.  [default: $TMPDIR, or /tmp]",
        ),
    ]
    command = with_hosts
    for option in reversed(options):
        command = option(command)
    return command
