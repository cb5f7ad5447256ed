"""The names of the export formats, and how each is written. Loads a format's libraries when it is written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Format(StrEnum):
    """What a result can be made into."""

    GEOJSON = "geojson"
    CSV = "csv"
    HEATMAP = "heatmap"
    OVERLAY = "overlay"
    DEEPZOOM = "deepzoom"
    CLAM = "clam"
    REPORT = "report"


_SUFFIXES = {
    Format.GEOJSON: ".geojson",
    Format.CSV: ".csv",
    Format.HEATMAP: ".heatmap.tif",
    Format.OVERLAY: ".overlay.png",
    Format.DEEPZOOM: ".deepzoom",
    Format.CLAM: ".clam",
    Format.REPORT: ".html",
}


@dataclass(frozen=True)
class Order:
    """One thing to make of a result.

    Attributes
    ----------
    format
        What.
    target
        File, or folder for ``deepzoom`` and ``clam``.
    merge, flat
        Of GeoJSON: outlines of positive regions instead of tiles; tiles without nesting.
    """

    format: Format
    target: Path
    merge: bool = False
    flat: bool = False


def parse_formats(words: str) -> tuple[Format, ...]:
    """Formats from words such as ``csv,geojson``, each once.

    Raises
    ------
    UsageError
        When a word names no format.
    """
    formats: dict[Format, None] = {}
    for word in filter(None, (word.strip() for word in words.split(","))):
        if word not in list(Format):
            raise UsageError(f"--export {word}: expected some of {', '.join(Format)}, joined by commas")
        formats[Format(word)] = None
    return tuple(formats)


def orders_beside(result: Path, formats: Sequence[Format]) -> tuple[Order, ...]:
    """Where ``run --export`` writes: the result's name with another ending."""
    return tuple(Order(one, result.with_name(result.stem + _SUFFIXES[one])) for one in formats)


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
        match order.format:
            case Format.DEEPZOOM:
                from pyramidai_mpi.export.deepzoom import check_deepzoom

                check_deepzoom(order.target, overwrite=overwrite)
            case Format.CLAM:
                from pyramidai_mpi.export.clam import check_clam

                check_clam(order.target, slide_name, overwrite=overwrite, inputs=inputs)
            case _:
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
    target = order.target
    match order.format:
        case Format.GEOJSON if order.merge:
            from pyramidai_mpi.export.outlines import write_outlines

            write_outlines(result, target, overwrite=overwrite)
        case Format.GEOJSON:
            from pyramidai_mpi.export.geojson import write_geojson

            write_geojson(result, target, overwrite=overwrite, flat=order.flat)
        case Format.CSV:
            from pyramidai_mpi.export.csv_table import write_csv

            write_csv(result, target, overwrite=overwrite)
        case Format.HEATMAP:
            from pyramidai_mpi.export.heatmap import write_heatmap

            write_heatmap(result, target, overwrite=overwrite)
        case Format.OVERLAY:
            from pyramidai_mpi.export.overlay import write_overlay

            write_overlay(result, target, slide, overwrite=overwrite)
        case Format.DEEPZOOM:
            from pyramidai_mpi.export.deepzoom import write_deepzoom

            write_deepzoom(result, target, slide, overwrite=overwrite)
        case Format.CLAM:
            from pyramidai_mpi.export.clam import write_clam

            write_clam(result, target, overwrite=overwrite)
        case Format.REPORT:
            from pyramidai_mpi.export.report import write_report

            write_report(result, target, slide, overwrite=overwrite)
