"""``pyramidai export``: tables, pictures and files for other programs from a result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyramidai_mpi.export.formats import FORMATS, Order, check_orders, make

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = click.Path(path_type=Path)


def _options_of_formats(function: Callable[..., int]) -> Callable[..., int]:
    """Add an option for each format, its variants behind it. The last decorator's comes first."""
    for one in reversed(FORMATS):
        for variant in reversed(one.variants):
            function = click.option(f"--{variant.name}", is_flag=True, help=variant.help)(function)
        function = click.option(f"--{one.name}", type=_PATH, metavar=one.metavar, help=one.help)(function)
    return function


@click.command("export")
@click.argument("result", type=_PATH, metavar="OUT.h5")
@_options_of_formats
@click.option(
    "--slide", type=_PATH, metavar="SLIDE", help="The slide of the result, to draw over; else its tissue mask."
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(result: Path, slide: Path | None, overwrite: bool, **asked: Any) -> int:
    """Make files for people and other programs out of OUT.h5."""
    from pyramidai_mpi.store.results.reader import open_result
    from pyramidai_mpi.store.results.tables import read_header

    orders = []
    for one in FORMATS:
        target, chosen = asked[one.name], [variant for variant in one.variants if asked[variant.name]]
        switches = " and ".join(f"--{variant.name}" for variant in one.variants)
        if chosen and target is None:
            raise click.UsageError(f"{switches} go with --{one}")
        if len(chosen) > 1:
            raise click.UsageError(f"{switches} exclude each other")
        if target is not None:
            orders.append(Order(one, target, *chosen))
    if not orders:
        options = ", ".join(f"--{one}" for one in FORMATS)
        raise click.UsageError(f"nothing to export; give at least one of {options}")
    with open_result(result) as file:
        slide_name = read_header(file).slide.name
    check_orders(orders, slide_name, overwrite=overwrite, inputs=[result, *([] if slide is None else [slide])])
    for order in orders:
        make(order, result, slide, overwrite=overwrite)
    return 0
