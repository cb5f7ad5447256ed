"""The option by which a run neither takes nor keeps what earlier ones have made ready."""

from __future__ import annotations

import click

cache_option = click.option(
    "--compiled-cache/--no-compiled-cache",
    default=True,
    show_default=True,
    help="Keep networks that were compiled and tried in ~/.cache/pyramidai, or $XDG_CACHE_HOME, for a quicker start.",
)
