"""``pyramidai patches measure``: how large groups of patches should be on this file system."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.patches.measure import Measured

_PATH = click.Path(path_type=Path, readable=False)
_GROUPS = "100,200,400,800,1600"
_PLOTS = (".png", ".svg")
_FORGOTTEN = 0.05
_REMEMBERED = 0.95


@click.command("measure", short_help="Time reading; say how large a group should be.")
@click.argument("place", type=_PATH, metavar="FILE|DIR")
@click.option("--groups", default=_GROUPS, show_default=True, metavar="N,N,...", help="Patches in a group, to try.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=3, show_default=True, help="Timings of each.")
@click.option(
    "--cold",
    is_flag=True,
    help="Also time files that the system does not have in memory, where it can be told to forget them.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the places read.")
@click.option("-o", "--output", type=_PATH, metavar="FILE.csv", help="Write every timing.")
@click.option("--plot", type=_PATH, metavar="FILE.png", help="Draw the figure (.png or .svg).")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(
    place: Path,
    groups: str,
    repeats: int,
    cold: bool,
    seed: int,
    output: Path | None,
    plot: Path | None,
    overwrite: bool,
) -> int:
    """Time reading patches of FILE, or of all files of DIR, where they lie, and say how many a group should have.

    Whole groups, single patches by chance, and the file opened anew for each patch, in milliseconds a patch. Files need
    stored pixels. It takes a minute or two.
    """
    import time

    from pyramidai_mpi.patches.database import open_patches
    from pyramidai_mpi.patches.measure import (
        Plan,
        csv_text,
        measure,
        opening_line,
        recommend,
        table_lines,
        usable_groups,
    )
    from pyramidai_mpi.process.memory import available_bytes
    from pyramidai_mpi.store.files.placing import check_target, placed

    wanted = _parse_groups(groups)
    files = _files(place)
    if plot is not None:
        if plot.suffix.lower() not in _PLOTS:
            raise UsageError(f"--plot {plot}: expected a name that ends with {' or '.join(_PLOTS)}")
        from pyramidai_mpi.patches.measure_plot import write_plot  # which says that matplotlib is missing
    inputs = [file.path for file in files]
    for target in (output, plot):
        if target is not None:
            check_target(target, overwrite=overwrite, inputs=inputs)
    usable = usable_groups(files, wanted, available_bytes())
    if left_out := sorted(set(wanted) - set(usable)):
        _warn(f"groups of {', '.join(map(str, left_out))} are left out: no file has as many, or memory for them lacks")
    states = _states(files, cold=cold)
    plan = Plan(usable, repeats, seed)
    started = time.perf_counter()
    readings = list(
        measure(files, plan, lambda path, group: open_patches(path, group=group), time.perf_counter, states)
    )
    patch_bytes, size = files[0].patch_bytes, files[0].size
    what = files[0].path.name if len(files) == 1 else f"{len(files)} files of {place}"
    click.echo(
        printable(
            f"{what}: {sum(file.n_patches for file in files)} patches of {size} x {size} px, milliseconds a patch "
            f"(median and range of {repeats}), measured in {time.perf_counter() - started:.0f} s"
        )
    )
    for line in table_lines(readings, patch_bytes):
        click.echo(line)
    click.echo(opening_line(readings))
    recommended = recommend(readings, patch_bytes)
    click.echo(str(recommended))
    if output is not None:
        with placed(output, overwrite=overwrite) as temporary:
            temporary.write_bytes(csv_text(readings, files).encode(errors="backslashreplace"))
    if plot is not None:
        write_plot(plot, readings, recommended, overwrite=overwrite)
    return 0


def _parse_groups(words: str) -> list[int]:
    """Sizes of groups.

    Raises
    ------
    UsageError
        When any is no number above 0.
    """
    if not re.fullmatch(r"0*[1-9]\d{0,8}(\s*,\s*0*[1-9]\d{0,8})*", words.strip(), re.ASCII):
        raise UsageError(f"--groups {words}: expected numbers of patches above 0, such as {_GROUPS}")
    return [int(word) for word in words.split(",")]


def _files(place: Path) -> list[Measured]:
    """The files to measure.

    Raises
    ------
    InputError
        When there is none, or one that has no pixels.
    """
    from pyramidai_mpi.base.errors import InputError
    from pyramidai_mpi.patches.database import open_patches
    from pyramidai_mpi.patches.lookup import files_at
    from pyramidai_mpi.patches.measure import Measured

    found = []
    for path in files_at(place):
        with open_patches(path) as patches:
            if patches.header.tiles is None and patches.header.images is None:
                raise InputError(f"{path}: keeps coordinates alone (--pixels none), so there is no reading to measure")
            found.append(Measured(path, len(patches), patches.header.settings.size))
    return found


def _states(files: list[Measured], *, cold: bool) -> dict[str, Callable[[Path], None]]:
    """What brings a file into each state that can be had; what cannot is said."""
    from pyramidai_mpi.patches.page_cache import forget, remember, share_in_memory

    found: dict[str, Callable[[Path], None]] = {}
    if cold:
        for file in files:
            forget(file.path)
            share = share_in_memory(file.path)
            if share is None:
                _warn(
                    f"{file.path}: whether the system has forgotten it cannot be seen on this file system; what is "
                    "called cold may be warm"
                )
            elif share > _FORGOTTEN:
                _warn(
                    f"{file.path}: --cold cannot be had here: {share:.0%} of it stay in memory though the system was "
                    "told to forget it (posix_fadvise); measured warm alone"
                )
                break
        else:
            found["cold"] = forget
    for file in files:
        remember(file.path)
        share = share_in_memory(file.path)
        if share is not None and share < _REMEMBERED:
            _warn(f"{file.path}: memory keeps {share:.0%} of it; what is called warm is partly cold")
    return {"warm": _as_it_is} | found


def _as_it_is(_path: Path) -> None:
    """It is in memory already."""


def _warn(text: str) -> None:
    click.echo(printable(f"pyramidai: {text}"), err=True)
