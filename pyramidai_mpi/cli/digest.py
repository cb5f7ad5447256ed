"""``pyramidai digest``: one line that two equal results share."""

from __future__ import annotations

from pathlib import Path

import click

from pyramidai_mpi.base.errors import printable


@click.command("digest")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, readable=False),
    metavar="OUT.h5|PATCHES.h5|EXPLAINED.h5...",
)
def command(files: tuple[Path, ...]) -> int:
    """Print the SHA-256 of what a result says, its tiles, their probabilities and decisions, or another such file.

    Features count where an encoder gave them.

    Of several files each line names its file, as sha256sum does.
    """
    for path in files:
        digest = digest_of_file(path)
        click.echo(digest if len(files) == 1 else printable(f"{digest}  {path}"))
    return 0


def digest_of_file(path: Path) -> str:
    """The digest of a result, of a file of patches, of a part of either, or of explained tiles, from its content.

    Raises
    ------
    InputError
        When it is none of them, or was changed.
    """
    from pyramidai_mpi.store.explanations.contents import FORMAT as EXPLANATION
    from pyramidai_mpi.store.explanations.reader import read_explanation
    from pyramidai_mpi.store.patches.reader import PatchFile
    from pyramidai_mpi.store.patches.record import FORMAT, PART_FORMAT
    from pyramidai_mpi.store.results.reader import format_of, read_digest

    found = format_of(path)
    if found == EXPLANATION:
        return read_explanation(path).digest
    if found not in {FORMAT, PART_FORMAT}:
        return read_digest(path, may_be_part=True)
    with PatchFile(path, may_be_part=True) as patches:
        patches.check_tables()
        return patches.header.digest
