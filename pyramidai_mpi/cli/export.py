"""``pyramidai export``: tables, pictures and files for other programs from a result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyramidai_mpi.export.formats import EXPLAINED, FORMATS, Order, check_orders, formats_of, make

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyramidai_mpi.export.formats import Format, Setting, Variant

_PATH = click.Path(path_type=Path, readable=False)


def _options_of_formats(function: Callable[..., int]) -> Callable[..., int]:
    """Add an option for each format, its variants behind it, and each setting behind the last that takes it."""
    options: list[Callable[..., Any]] = []
    places: dict[Setting, int] = {}
    for name in _NAMES:
        rows = _rows_of(name)
        options.append(click.option(f"--{name}", type=_PATH, metavar=rows[0].metavar, help=rows[0].help))
        for one in rows:
            options += [click.option(f"--{each.name}", is_flag=True, help=each.help) for each in one.variants]
            places |= dict.fromkeys(_all_settings(one), len(options))
    for setting, place in sorted(places.items(), key=lambda item: item[1], reverse=True):
        options.insert(place, click.option(f"--{setting.name}", metavar=setting.metavar, help=setting.help))
    for option in reversed(options):  # the last decorator's comes first
        function = option(function)
    return function


_NAMES = tuple(dict.fromkeys(one.name for one in (*FORMATS, *EXPLAINED)))
_VARIANTS = tuple(each for one in FORMATS for each in one.variants)


def _rows_of(name: str) -> list[Format]:
    """The rows of a name, that of results first."""
    return [one for one in (*FORMATS, *EXPLAINED) if one.name == name]


def _all_settings(one: Format) -> list[Setting]:
    return [*one.settings, *(setting for each in one.variants for setting in each.settings)]


def _settings_of(one: Format, variant: Variant | None, asked: Mapping[str, Any]) -> tuple[tuple[Setting, str], ...]:
    """What the command line tells a writer, of what can be told it."""
    takes = (variant or one).settings
    return tuple((setting, asked[setting.name]) for setting in takes if asked[setting.name] is not None)


def _check_settings(orders: Sequence[Order], formats: Sequence[Format], asked: Mapping[str, Any]) -> None:
    """See that each setting given has something to tell it to."""
    told = {setting.name for order in orders for setting, _ in order.settings}
    for setting in {setting: None for one in (*FORMATS, *EXPLAINED) for setting in _all_settings(one)}:
        if asked[setting.name] is not None and setting.name not in told:
            takers = [f"--{one}" for one in formats if setting in one.settings]
            takers += [f"--{each.name}" for one in formats for each in one.variants if setting in each.settings]
            raise click.UsageError(f"--{setting.name} goes with {' or '.join(takers) or _others(formats)}")


def _others(formats: Sequence[Format]) -> str:
    """What goes with the files that these are not the formats of."""
    return "a result, not with explained tiles" if formats is EXPLAINED else "explained tiles, not with a result"


def _asked_of(asked: Mapping[str, Any]) -> tuple[Format, ...] | None:
    """What the options make, where one of them goes with nothing else; mistakes show before a file is looked at."""
    of = [_words_of(FORMATS), _words_of(EXPLAINED)]
    given = {name for name, value in asked.items() if value}
    if given & (of[1] - of[0]):
        return EXPLAINED
    return FORMATS if given & (of[0] - of[1]) else None


def _words_of(formats: Sequence[Format]) -> set[str]:
    """Names of all options."""
    words: list[Format | Variant | Setting] = []
    for one in formats:
        words += [one, *one.variants, *_all_settings(one)]
    return {word.name for word in words}


def _orders(formats: Sequence[Format], slide: Path | None, asked: Mapping[str, Any]) -> list[Order]:
    """What is asked for, of what can be made."""
    names, orders = {one.name for one in formats}, []
    for name in _NAMES:
        if asked[name] is not None and name not in names:
            raise click.UsageError(f"--{name} goes with {_others(formats)}")
    for variant in _VARIANTS:
        if asked[variant.name] and formats is EXPLAINED:
            raise click.UsageError(f"--{variant.name} goes with {_others(formats)}")
    for one in formats:
        target, chosen = asked[one.name], [variant for variant in one.variants if asked[variant.name]]
        switches = " and ".join(f"--{variant.name}" for variant in one.variants)
        if chosen and target is None:
            raise click.UsageError(f"{switches} go with --{one}")
        if len(chosen) > 1:
            raise click.UsageError(f"{switches} exclude each other")
        if target is not None and one.needs_slide and slide is None:
            raise click.UsageError(f"--{one} is cut from the slide; give it with --slide")
        if target is not None:
            given = chosen[0] if chosen else None
            orders.append(Order(one, target, given, _settings_of(one, given, asked)))
    _check_settings(orders, formats, asked)
    return orders


@click.command("export")
@click.argument("result", type=_PATH, metavar="OUT.h5|EXPLAINED.h5")
@_options_of_formats
@click.option(
    "--slide", type=_PATH, metavar="SLIDE", help="The slide of the result, to draw over; else its tissue mask."
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(result: Path, slide: Path | None, overwrite: bool, **asked: Any) -> int:
    """Make files for people and other programs out of OUT.h5.

    Of explained tiles, EXPLAINED.h5, make --geojson, --csv, --heatmap, --overlay, --tiles or --sheet.
    """
    from pyramidai_mpi.export.record import slide_name_of
    from pyramidai_mpi.slides.dicom import file_of_slide

    if all(asked[name] is None for name in _NAMES):  # before a large file is looked at
        options = ", ".join(f"--{name}" for name in _NAMES)
        raise click.UsageError(f"nothing to export; give at least one of {options}")
    asked_of = _asked_of(asked) or formats_of(result)
    orders = _orders(asked_of, slide, asked)
    if asked_of is not formats_of(result):
        _orders(formats_of(result), slide, asked)  # says what does not go with it
    if slide is not None:
        slide = file_of_slide(slide)
    inputs = [result, *([] if slide is None else [slide])]
    check_orders(orders, slide_name_of(result), overwrite=overwrite, inputs=inputs)
    for order in orders:
        make(order, result, slide, overwrite=overwrite)
    return 0
