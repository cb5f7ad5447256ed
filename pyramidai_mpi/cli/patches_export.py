"""``pyramidai patches export``: files of patches in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyramidai_mpi.base.errors import UsageError, printable
from pyramidai_mpi.patches.formats.table import DEFAULT_SHARD_SIZE, FORMATS, PICTURES, PictureOptions

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = click.Path(path_type=Path, readable=False)


def _options_of_formats(function: Callable[..., int]) -> Callable[..., int]:
    for one in reversed(FORMATS):  # the last decorator's comes first
        function = click.option(f"--{one.name}", type=_PATH, metavar="DIR", help=one.help)(function)
    return function


@click.command("export", short_help="Make folders for other programs.")
@click.argument("source", type=_PATH, metavar="FILE|DIR")
@_options_of_formats
@click.option(
    "--format",
    "picture",
    type=click.Choice(PICTURES),
    help=f"How --webdataset and --images write pictures.  [default: {PICTURES[0]}]",
)
@click.option(
    "--shard-size",
    type=int,
    metavar="N",
    help=f"Patches in a tar file of --webdataset.  [default: {DEFAULT_SHARD_SIZE}]",
)
@click.option("--overwrite", is_flag=True, help="Replace folders that hold nothing but such an export.")
def export(source: Path, picture: str | None, shard_size: int | None, overwrite: bool, **asked: Path | None) -> int:
    """Make folders for other programs out of a file of patches, or of all those in a folder."""
    orders = [(one, target) for one in FORMATS if (target := asked[one.name]) is not None]
    if not orders:
        options = ", ".join(f"--{one.name}" for one in FORMATS)
        raise UsageError(f"nothing to export; give at least one of {options}")
    if picture is not None and not any(one.pictures for one, _ in orders):
        raise UsageError("--format goes with --webdataset or --images")
    if shard_size is not None and asked["webdataset"] is None:
        raise UsageError("--shard-size goes with --webdataset")
    options_given: dict[str, Any] = {} if picture is None else {"picture": picture}
    options_given |= {} if shard_size is None else {"shard_size": shard_size}
    settings = PictureOptions(**options_given)

    from pyramidai_mpi.patches.formats.exporting import export_patches
    from pyramidai_mpi.patches.lookup import files_at

    files = files_at(source)
    for line in export_patches(files, orders, settings, overwrite=overwrite):
        click.echo(printable(line))
    return 0
