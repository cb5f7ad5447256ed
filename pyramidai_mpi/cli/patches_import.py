"""``pyramidai patches import``: files of patches of what other programs have made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import ExitCode, InputError, PyramidError, UsageError, printable
from pyramidai_mpi.base.patch_order import DEFAULT_GROUP, PIXELS, parse_pixels
from pyramidai_mpi.cli.command_line import recorded_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.patches.formats.listed_patches import ImportOptions

_PATH = click.Path(path_type=Path, readable=False)


@click.command("import", short_help="Take over what other programs have made.")
@click.option("--clam", type=_PATH, metavar="FILE|DIR", help="CLAM's coordinates of a slide, or a folder of them.")
@click.option("--trident", type=_PATH, metavar="FILE|DIR", help="TRIDENT's, likewise.")
@click.option("--images", type=_PATH, metavar="DIR", help="Pictures in a folder a label: DIR/LABEL/*.png, jpg or tif.")
@click.option("--slides", type=_PATH, metavar="FILE|DIR", help="The slide of the coordinates, or a folder of slides.")
@click.option(
    "--pixels",
    metavar="stored|raw|jpeg:Q|none",
    help="What to keep beside coordinates: the slide's own encoded tiles, decoded patches, or nothing.  "
    f"[default: {PIXELS[0]}]",
)
@click.option(
    "--slide-mpp", type=float, metavar="X", help="µm per level-0 pixel, where slides do not say or are wrong."
)
@click.option(
    "--table", type=_PATH, metavar="F.csv", help="Of --images: columns file and, if wanted, label and patient."
)
@click.option("--mpp", type=float, metavar="X", help="µm per pixel of --images.  [default: unknown]")
@click.option("--group", type=int, default=DEFAULT_GROUP, show_default=True, metavar="N", help="Patches in a group.")
@click.option("-o", "--output", type=_PATH, required=True, metavar="DIR", help="Folder for the files of patches.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def import_patches(
    clam: Path | None,
    trident: Path | None,
    images: Path | None,
    slides: Path | None,
    pixels: str | None,
    slide_mpp: float | None,
    table: Path | None,
    mpp: float | None,
    group: int,
    output: Path,
    overwrite: bool,
) -> int:
    """Make files of patches of coordinates and their slides, or of folders of pictures."""
    asked = {"clam": clam, "trident": trident, "images": images}
    given = [(name, path) for name, path in asked.items() if path is not None]
    if len(given) != 1:
        raise UsageError("give one of --clam, --trident and --images")
    kind, source = given[0]
    _check_options(kind, slides=slides, pixels=pixels, slide_mpp=slide_mpp, table=table, mpp=mpp)
    kept, quality = parse_pixels(pixels or PIXELS[0])
    if group < 1:
        raise UsageError(f"--group {group}: expected a number of patches above 0")
    command_line = recorded_command(click.get_current_context())

    from pyramidai_mpi.store.files.placing import check_folder

    check_folder(output)
    if kind == "images":
        from pyramidai_mpi.patches.formats.picture_patches import import_pictures

        for line in import_pictures(
            source,
            table,
            output,
            mpp=math.nan if mpp is None else mpp,
            group=group,
            command_line=command_line,
            overwrite=overwrite,
        ):
            click.echo(printable(line))
        return 0
    assert slides is not None
    from pyramidai_mpi.patches.formats.listed_patches import ImportOptions

    options = ImportOptions(kind, kept, quality, group, slide_mpp, command_line)
    return _import_coordinates(_pairs(source, slides), output, options, overwrite=overwrite)


def _check_options(kind: str, **given: object) -> None:
    """See that each option has something to do with what is imported."""
    of_images = {"table", "mpp"}
    for name, value in given.items():
        if value is None:
            continue
        if (name in of_images) != (kind == "images"):
            raise UsageError(f"--{name.replace('_', '-')} does not go with --{kind}")
        if name in {"mpp", "slide_mpp"} and not (isinstance(value, float) and math.isfinite(value) and value > 0):
            raise UsageError(f"--{name.replace('_', '-')} {value}: expected a number of µm per pixel above 0")
    if kind != "images" and given["slides"] is None:
        raise UsageError(f"--{kind} says where patches lie; give the slides with --slides")


def _pairs(source: Path, slides: Path) -> list[tuple[Path, Path]]:
    """Files of coordinates, each with its slide."""
    from pyramidai_mpi.patches.formats.foreign_coordinates import coordinate_files, slide_called, slide_name
    from pyramidai_mpi.run.selection import select_slides

    files = coordinate_files(source)
    selection = select_slides([slides], None)
    found = [entry.slide for entry in selection.entries]
    if not selection.is_cohort and len(files) == 1:
        return [(files[0], found[0])]
    return [(path, slide_called(slide_name(path), found, path)) for path in files]


def _import_coordinates(
    pairs: Sequence[tuple[Path, Path]], output: Path, options: ImportOptions, *, overwrite: bool
) -> int:
    """Import all, each that fails said in a line; the exit code."""
    from pyramidai_mpi.cli.main import say_error
    from pyramidai_mpi.patches.formats.listed_patches import import_coordinates
    from pyramidai_mpi.store.files.placing import check_target
    from pyramidai_mpi.store.patches.record import patch_file

    targets = [output / patch_file(slide) for _, slide in pairs]
    for (path, slide), target in zip(pairs, targets, strict=True):
        check_target(target, overwrite=overwrite, inputs=[path, slide])
    if len(set(targets)) < len(targets):
        raise InputError(f"{output}: two files would have one name, as two slides have; import them into two folders")
    failed = []
    some_unreadable = False
    for (path, slide), target in zip(pairs, targets, strict=True):
        try:
            lines, n_failed = import_coordinates(path, slide, target, options, overwrite=overwrite)
        except PyramidError as error:
            if len(pairs) == 1:
                raise
            say_error(str(error))
            failed.append(path)
            continue
        some_unreadable |= n_failed > 0
        for line in lines:
            click.echo(printable(line))
    if failed:
        say_error(f"{len(failed)} of {len(pairs)} files of coordinates failed")
        return ExitCode.SLIDES_FAILED
    return ExitCode.TILES_FAILED if some_unreadable else ExitCode.OK
