"""``pyramidai digest``: one line that two equal results share."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("digest")
@click.argument("result", type=click.Path(path_type=Path), metavar="OUT.h5")
def command(result: Path) -> int:
    """Print the SHA-256 of what OUT.h5 says: the tiles, their probabilities and decisions."""
    from pyramidai_mpi.store.results.reader import read_digest

    click.echo(read_digest(result))
    return 0
