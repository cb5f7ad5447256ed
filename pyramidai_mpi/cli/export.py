"""``pyramidai export``: pictures from a result."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command("export")
@click.argument("result", type=_PATH, metavar="OUT.h5")
@click.option("--overlay", type=_PATH, required=True, metavar="F.png", help="Heatmap over the slide's thumbnail.")
@click.option("--slide", type=_PATH, required=True, metavar="SLIDE", help="The slide that the result was made from.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def command(result: Path, overlay: Path, slide: Path, overwrite: bool) -> int:
    """Draw OUT.h5 as a picture."""
    from pyramidai_mpi.export.overlay import write_overlay

    write_overlay(result, slide, overlay, overwrite=overwrite)
    return 0
