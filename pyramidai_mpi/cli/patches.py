"""``pyramidai patches``: files of patches of slides, and what is in them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import InputError, printable
from pyramidai_mpi.base.patch_order import parse_bytes
from pyramidai_mpi.cli.patches_export import export
from pyramidai_mpi.cli.patches_extract import extract
from pyramidai_mpi.cli.patches_folds import folds
from pyramidai_mpi.cli.patches_import import import_patches
from pyramidai_mpi.cli.patches_measure import command as measure
from pyramidai_mpi.cli.patches_report import report

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH = click.Path(path_type=Path, readable=False)


@click.group("patches")
def command() -> None:
    """Cut patches out of slides, and look at files of them."""


@command.command("info")
@click.argument("file", type=_PATH, metavar="FILE")
def info(file: Path) -> int:
    """Describe a file of patches."""
    for line in describe(file):
        click.echo(printable(line))
    return 0


_KINDS = {"raw": "RGB as it is", "jpeg": "JPEG of quality {}", "files": "files of pictures as they were"}


def describe(path: Path) -> Iterator[str]:
    """What there is to say of a file of patches, line by line."""
    from pyramidai_mpi.patches.shares import Spreads, share_lines
    from pyramidai_mpi.patches.tally import label_places
    from pyramidai_mpi.store.patches.reader import PatchFile
    from pyramidai_mpi.store.patches.record import PLACES

    with PatchFile(path, may_be_part=True) as file:
        header, execution = file.header, file.execution()
        labels, label = label_places(header.settings.label_names, file.patches["label"])
        spreads = Spreads()
        spreads.add(file.patches, labels, label)
    slide, settings, store = header.slide, header.settings, header.tiles
    yield f"patches    {path} (complete, written {header.created} by version {header.software_version})"
    if header.part is not None:
        yield f"part       {header.part.part.number} of {header.part.part.of}: join them with pyramidai merge"
    has_slide = settings.places != PLACES[2]
    of_slide = f"{slide.l0_size[0]} x {slide.l0_size[1]} px at {slide.mpp:g} µm/px" if has_slide else "pictures"
    yield f"slide      {slide.name}, {of_slide}"
    if slide.origin:
        yield f"origin     {', '.join(f'{name} {value}' for name, value in slide.origin.items())}"
    spacing = "µm/px unknown" if math.isnan(settings.spacing) else f"{settings.spacing:.4g} µm/px"
    yield (
        f"patch      {settings.size} x {settings.size} px at {spacing}, stride {settings.stride}, "
        f"margin {(settings.size - settings.stride) // 2}"
    )
    seed = f", seed {settings.seed}" if settings.n_random else ""
    sample = f"{settings.sample}{seed}, of {header.n_cells} cells with {settings.min_tissue:g} tissue or more"
    yield f"sample     {sample if settings.places == PLACES[0] else 'as they were listed or found elsewhere'}"
    if settings.label_names:
        names = ", ".join(settings.label_names)
        shares = f" (tumor from {settings.tumor_share:g}, normal up to {settings.normal_share:g} of the tissue)"
        only = f", {settings.only_label} alone" if settings.only_label else ""
        yield f"labels     {names}{'' if math.isnan(settings.tumor_share) else shares}{only}"
    if settings.is_measured:
        limits = [
            f"{name} up to {limit:g}"
            for name, limit in (("white", settings.max_white), ("black", settings.max_black))
            if not math.isnan(limit)
        ]
        said = f"{', '.join(limits)}; {header.n_refused} beyond" if limits else "measured, no limit"
        yield f"limits     {said} (white: all channels above {settings.white_level})"
    groups = f"{counted(header.n_groups, 'group')} of up to {settings.group}"
    yield f"number     {header.n_patches} in {groups}, {header.n_failed} unreadable"
    yield from share_lines(spreads, labels)
    n_bytes, raw = header.tile_bytes + header.image_bytes, 3 * settings.size**2 * header.n_patches
    size = f"{n_bytes / 1e6:.1f} MB"
    if 0 < 1.05 * n_bytes < raw:
        size += f", {raw / n_bytes:.1f} times smaller than decoded patches"
    if store is not None:
        yield f"pixels     {header.n_tiles} stored tiles ({store.coding}), {size}"
    elif header.images is not None:
        yield f"pixels     a picture a patch ({_KINDS[header.images.coding].format(header.images.quality)}), {size}"
    else:
        yield "pixels     none: coordinates alone"
    for name, value in execution.attributes.items():
        yield f"  {name}: {value}"
    yield f"digest     {header.digest}"


@command.command("verify", short_help="Check checksums, and decode every tile.")
@click.argument("files", nargs=-1, required=True, type=_PATH, metavar="FILE|DIR...")
def verify(files: tuple[Path, ...]) -> int:
    """Check every checksum of files of patches, or of all in a folder, and decode all that they keep."""
    from pyramidai_mpi.patches.database import open_patches
    from pyramidai_mpi.patches.lookup import files_at

    for path in (path for place in files for path in files_at(place)):
        with open_patches(path) as patches:
            wrong = patches.check()
            if wrong:
                more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
                where = "" if wrong[0].startswith(str(path)) else f"{path}: "
                raise InputError(f"{where}{wrong[0]}{more}")
            kept = f"{patches.header.n_tiles} stored tiles"
            if patches.header.images is not None:
                kept = "a picture each"
            click.echo(printable(f"{path}: {len(patches)} patches, {kept}, all sound"))
    return 0


@command.command("lookup", short_help="Print the table of groups for array jobs.")
@click.argument("place", type=_PATH, metavar="FILE|DIR")
@click.option(
    "--ram",
    metavar="SIZE",
    help="Memory that a group of decoded patches may take, such as 230MiB.  [default: each file's own groups]",
)
def lookup(place: Path, ram: str | None) -> int:
    """Print which groups of patches are of which slide, numbered over all files of a folder: for array jobs."""
    from pyramidai_mpi.patches.lookup import counted_groups, files_at, lookup_lines

    n_bytes = None if ram is None else parse_bytes("--ram", ram)
    table = list(lookup_lines(counted_groups(files_at(place), n_bytes)))  # the whole table, or an error alone
    for line in table:
        click.echo(printable(line))
    return 0


for _command in (
    export,
    extract,
    folds,
    import_patches,
    measure,
    report,
):
    command.add_command(_command)
