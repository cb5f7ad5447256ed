"""What a result can be made into: one table. Loads a format's libraries when it is written."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Variant:
    """Another way to write a format, by a switch of ``pyramidai export``; those of one format exclude each other.

    Attributes
    ----------
    name
        Of the switch.
    writer
        As a format's; is not given the slide.
    help
        Of the switch.
    """

    name: str
    writer: str
    help: str


@dataclass(frozen=True)
class Format:
    """One row of the table.

    Attributes
    ----------
    name
        Word of ``run --export``, and option of ``pyramidai export``.
    suffix
        Of the file or folder beside the result, in place of the result's ``.h5``.
    writer
        Function ``(result, target, *, overwrite)`` in a module of this room.
    metavar, help
        Of the option.
    draws_slide
        The writer takes the slide, or None, as a third argument.
    check
        Of what makes a folder: function ``(folder, slide_name, *, overwrite, inputs)`` that does what `check_target`
        does for a file.
    variants
        Other ways to write it.
    """

    name: str
    suffix: str
    writer: str
    metavar: str
    help: str
    draws_slide: bool = False
    check: str = ""
    variants: tuple[Variant, ...] = ()

    def __str__(self) -> str:
        return self.name


_MERGE = Variant("merge", "outlines.write_outlines", "GeoJSON holds the outlines of positive regions instead.")
_FLAT = Variant("flat", "geojson.write_flat", "GeoJSON holds tiles side by side, for programs other than QuPath.")
FORMATS = (
    Format(
        "geojson",
        ".geojson",
        "geojson.write_geojson",
        "F",
        "Tiles for QuPath, children within parents; .gz compresses.",
        variants=(_MERGE, _FLAT),
    ),
    Format("csv", ".csv", "csv_table.write_csv", "F", "Tiles, with WSInfer's columns first."),
    Format("heatmap", ".heatmap.tif", "heatmap.write_heatmap", "F.tif", "Scores as pyramidal OME BigTIFF."),
    Format(
        "overlay",
        ".overlay.png",
        "overlay.write_overlay",
        "F.png",
        "Picture of scores, and of the last look at every place.",
        draws_slide=True,
    ),
    Format(
        "deepzoom",
        ".deepzoom",
        "deepzoom.write_deepzoom",
        "DIR",
        "The overlay as Deep Zoom, for a browser.",
        draws_slide=True,
        check="deepzoom.check_deepzoom",
    ),
    Format(
        "clam",
        ".clam",
        "clam.write_clam",
        "DIR",
        "Coordinates and features for CLAM and TRIDENT, a folder a level.",
        check="clam.check_clam",
    ),
    Format(
        "report",
        ".html",
        "report.write_report",
        "F.html",
        "A page of pictures and figures that opens anywhere.",
        draws_slide=True,
    ),
)


@dataclass(frozen=True)
class Order:
    """One thing to make of a result.

    Attributes
    ----------
    format
        What.
    target
        File, or folder where the format has a ``check``.
    variant
        Another way to write it.
    """

    format: Format
    target: Path
    variant: Variant | None = None


def parse_formats(words: str) -> tuple[Format, ...]:
    """Formats from words such as ``csv,geojson``, each once.

    Raises
    ------
    UsageError
        When a word names no format.
    """
    known = {one.name: one for one in FORMATS}
    wanted = [word for part in words.split(",") if (word := part.strip())]
    for word in wanted:
        if word not in known:
            raise UsageError(f"--export {word}: expected some of {', '.join(known)}, joined by commas")
    return tuple(known[word] for word in dict.fromkeys(wanted))


def orders_beside(result: Path, formats: Sequence[Format]) -> tuple[Order, ...]:
    """Where ``run --export`` writes: the result's name with another ending."""
    return tuple(Order(one, result.with_name(result.stem + one.suffix)) for one in formats)


def check_orders(
    orders: Sequence[Order], slide_name: str, *, overwrite: bool = False, inputs: Sequence[Path] = ()
) -> None:
    """Find out before the work whether all its files could be placed after it.

    Parameters
    ----------
    orders
        What is to be made of one result.
    slide_name
        File name of the result's slide: CLAM's files are named like it.
    inputs
        What the work reads; it is never replaced, not even on request.

    Raises
    ------
    UsageError
        When a target is one of the inputs, or two orders have the same one.
    OutputExistsError, StorageError
        When a target is in the way or cannot be written.
    """
    from pyramidai_mpi.store.files.placing import check_target

    taken: dict[Path, Format] = {}
    for order in orders:
        if other := taken.get(order.target):
            raise UsageError(f"{order.target}: is named for {other} and for {order.format}; name two outputs")
        taken[order.target] = order.format
        if order.format.check:
            load(order.format.check)(order.target, slide_name, overwrite=overwrite, inputs=inputs)
        else:
            check_target(order.target, overwrite=overwrite, inputs=inputs)


def carry_out(order: Order, result: Path, slide: Path | None = None, *, overwrite: bool = False) -> None:
    """Make one thing of a result.

    Raises
    ------
    InputError
        When the result cannot be read, or the slide is another one than the result's.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    given = (slide,) if order.format.draws_slide and order.variant is None else ()
    load((order.variant or order.format).writer)(result, order.target, *given, overwrite=overwrite)


def load(function: str) -> Callable[..., Any]:
    """A function of this room, from ``module.name``; loads what it needs."""
    module, _, name = function.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(f"pyramidai_mpi.export.{module}"), name)
    return found
