"""``pyramidai export``: tables, pictures and files for other programs from a result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyramidai_mpi.export.formats import FORMATS, Order, check_orders, make

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyramidai_mpi.export.formats import Format, Setting, Variant

_PATH = click.Path(path_type=Path, readable=False)


def _options_of_formats(function: Callable[..., int]) -> Callable[..., int]:
    """Add an option for each format, its variants behind it, and each setting behind the last that takes it."""
    options: list[Callable[..., Any]] = []
    places: dict[Setting, int] = {}
    for one in FORMATS:
        options.append(click.option(f"--{one.name}", type=_PATH, metavar=one.metavar, help=one.help))
        options += [click.option(f"--{each.name}", is_flag=True, help=each.help) for each in one.variants]
        places |= dict.fromkeys(_all_settings(one), len(options))
    for setting, place in sorted(places.items(), key=lambda item: item[1], reverse=True):
        options.insert(place, click.option(f"--{setting.name}", metavar=setting.metavar, help=setting.help))
    for option in reversed(options):  # the last decorator's comes first
        function = option(function)
    return function


def _all_settings(one: Format) -> list[Setting]:
    return [*one.settings, *(setting for each in one.variants for setting in each.settings)]


def _settings_of(one: Format, variant: Variant | None, asked: Mapping[str, Any]) -> tuple[tuple[Setting, str], ...]:
    """What the command line tells a writer, of what can be told it."""
    takes = (variant or one).settings
    return tuple((setting, asked[setting.name]) for setting in takes if asked[setting.name] is not None)


def _check_settings(orders: Sequence[Order], asked: Mapping[str, Any]) -> None:
    """See that each setting given has something to tell it to."""
    told = {setting.name for order in orders for setting, _ in order.settings}
    for setting in {setting: None for one in FORMATS for setting in _all_settings(one)}:
        if asked[setting.name] is not None and setting.name not in told:
            takers = [f"--{one}" for one in FORMATS if setting in one.settings]
            takers += [f"--{each.name}" for one in FORMATS for each in one.variants if setting in each.settings]
            raise click.UsageError(f"--{setting.name} goes with {' or '.join(takers)}")


@click.command("export")
@click.argument("result", type=_PATH, metavar="OUT.h5")
@_options_of_formats
@click.option(
    "--slide", type=_PATH, metavar="SLIDE", help="The slide of the result, to draw over; else its tissue mask."
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(result: Path, slide: Path | None, overwrite: bool, **asked: Any) -> int:
    """Make files for people and other programs out of OUT.h5."""
    from pyramidai_mpi.slides.dicom import file_of_slide
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
        if target is not None and one.needs_slide and slide is None:
            raise click.UsageError(f"--{one} is cut from the slide; give it with --slide")
        if target is not None:
            variant = chosen[0] if chosen else None
            orders.append(Order(one, target, variant, _settings_of(one, variant, asked)))
    if not orders:
        options = ", ".join(f"--{one}" for one in FORMATS)
        raise click.UsageError(f"nothing to export; give at least one of {options}")
    _check_settings(orders, asked)
    if slide is not None:
        slide = file_of_slide(slide)
    with open_result(result) as file:
        slide_name = read_header(file).slide.name
    check_orders(orders, slide_name, overwrite=overwrite, inputs=[result, *([] if slide is None else [slide])])
    for order in orders:
        make(order, result, slide, overwrite=overwrite)
    return 0
