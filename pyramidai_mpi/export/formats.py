"""What a result, or explained tiles, can be made into: a table each. Loads a format's libraries when it is written."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import OutputExistsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """What writers can be told beside their target, by an option of ``pyramidai export``.

    Attributes
    ----------
    name
        Of the option, and of the writers' keyword.
    parse
        Function ``(text)`` in a module of this room that makes the keyword's value of the option's text; raises
        `UsageError`.
    metavar, help
        Of the option.
    """

    name: str
    parse: str
    metavar: str
    help: str


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
    settings
        What its writer can be told.
    """

    name: str
    writer: str
    help: str
    settings: tuple[Setting, ...] = ()


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
    files
        Of what makes a folder: function ``(folder, slide_name)`` that gives all files there that are of the slide.
    variants
        Other ways to write it.
    settings
        What its writer can be told.
    needs_slide
        Nothing can be written without the slide.
    needs_scores
        It shows scores, which an encoder's result has none of.
    """

    name: str
    suffix: str
    writer: str
    metavar: str
    help: str
    draws_slide: bool = False
    check: str = ""
    files: str = ""
    variants: tuple[Variant, ...] = ()
    settings: tuple[Setting, ...] = ()
    needs_slide: bool = False
    needs_scores: bool = True

    def __str__(self) -> str:
        return self.name


_LEVELS = Setting("levels", "levels.parse_levels", "N,...", "CSV and GeoJSON hold tiles of these levels only.")
_TOP = Setting("top", "top_tiles.parse_top", "N", "How many tiles --tiles writes, 50 unless given.")
_SHOW = Setting(
    "show",
    "shown.parse_show",
    "attention|contribution[:CLASS]",
    "Of a predicted slide: show the tiles' attention, or contribution, in place of their scores.",
)
_ABOVE = Setting(
    "above",
    "explained.outlines.parse_above",
    "quantile:Q|share:S|value:V",
    "Of explained tiles: what stands out, quantile:0.9 unless given.",
)
_EXPLAINED_LAYER = Setting(
    "explained", "explained.layer.parse_explained", "EXPLAINED.h5", "Explained tiles as a layer of --report."
)
_MERGE = Variant("merge", "outlines.write_outlines", "GeoJSON holds the outlines of positive regions instead.")
_FLAT = Variant(
    "flat", "geojson.write_flat", "GeoJSON holds tiles side by side, for programs other than QuPath.", (_LEVELS, _SHOW)
)
FORMATS = (
    Format(
        "geojson",
        ".geojson",
        "geojson.write_geojson",
        "F",
        "Tiles for QuPath, children within parents; .gz compresses.",
        variants=(_MERGE, _FLAT),
        settings=(_LEVELS, _SHOW),
    ),
    Format("csv", ".csv", "csv_table.write_csv", "F", "Tiles, with WSInfer's columns first.", settings=(_LEVELS,)),
    Format(
        "heatmap",
        ".heatmap.tif",
        "heatmap.write_heatmap",
        "F.tif",
        "Scores as pyramidal OME BigTIFF.",
        settings=(_SHOW,),
    ),
    Format(
        "overlay",
        ".overlay.png",
        "overlay.write_overlay",
        "F.png",
        "Picture of scores, and of the last look at every place.",
        draws_slide=True,
        settings=(_SHOW,),
    ),
    Format(
        "deepzoom",
        ".deepzoom",
        "deepzoom.write_deepzoom",
        "DIR",
        "The overlay as Deep Zoom, for a browser.",
        draws_slide=True,
        check="deepzoom.check_deepzoom",
        files="deepzoom.files_of_deepzoom",
    ),
    Format(
        "tiles",
        ".tiles",
        "tiles.write_tiles",
        "DIR",
        "The highest-scored tiles as PNG, with a table; needs --slide.",
        draws_slide=True,
        check="tiles.check_tiles",
        files="tiles.files_of_tiles",
        settings=(_TOP, _SHOW),
        needs_slide=True,
    ),
    Format(
        "clam",
        ".clam",
        "clam.write_clam",
        "DIR",
        "Coordinates and features for CLAM and TRIDENT, a folder a level.",
        check="clam.check_clam",
        files="clam.files_of_clam",
        needs_scores=False,
    ),
    Format(
        "report",
        ".html",
        "report.write_report",
        "F.html",
        "A page of pictures and figures that opens anywhere.",
        draws_slide=True,
        settings=(_EXPLAINED_LAYER,),
    ),
)

EXPLAINED = (
    Format(
        "geojson",
        ".geojson",
        "explained.outlines.write_explained_outlines",
        "F",
        "Outlines of what stands out.",
        settings=(_ABOVE,),
    ),
    Format("csv", ".csv", "explained.table.write_explained_csv", "F", "Places, scores and areas under curves."),
    Format("heatmap", ".heatmap.tif", "explained.heat.write_explained_heatmap", "F.tif", "All maps, stitched."),
    Format(
        "overlay",
        ".overlay.png",
        "explained.overlay.write_explained_overlay",
        "F.png",
        "All maps over the slide.",
        draws_slide=True,
    ),
    Format(
        "tiles",
        ".tiles",
        "explained.tiles.write_explained_tiles",
        "DIR",
        "The tiles beside their maps; needs --slide.",
        draws_slide=True,
        check="explained.tiles.check_explained_tiles",
        files="tiles.files_of_tiles",
        settings=(_TOP,),
        needs_slide=True,
    ),
    Format(
        "sheet",
        ".sheet.png",
        "explained.sheet.write_explained_sheet",
        "F.png",
        "Explained tiles beside their maps, with curves of deletion and insertion.",
        draws_slide=True,
    ),
)
"""What a file of explained tiles can be made into; what a result can too has the same name."""


def formats_of(result: Path) -> tuple[Format, ...]:
    """What a file can be made into, by what it says that it holds.

    Raises
    ------
    InputError
        When it is missing, no HDF5 file, or was changed after it was written.
    """
    from pyramidai_mpi.store.explanations.contents import FORMAT
    from pyramidai_mpi.store.results.reader import format_of

    return EXPLAINED if format_of(result) == FORMAT else FORMATS


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
    settings
        What its writer is told, each with the option's text.
    """

    format: Format
    target: Path
    variant: Variant | None = None
    settings: tuple[tuple[Setting, str], ...] = ()

    @property
    def way(self) -> str:
        """How it is made, in words for the record of exports; empty for the plain format."""
        variant = [] if self.variant is None else [self.variant.name]
        return " ".join([*variant, *(f"{setting.name}={text}" for setting, text in self.settings)])

    def keywords(self) -> dict[str, Any]:
        """What its writer is told.

        Raises
        ------
        UsageError
            When an option's text makes no sense.
        """
        return {setting.name: load(setting.parse)(text) for setting, text in self.settings}


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
        When a target is one of the inputs, two orders have the same one, or a setting makes no sense.
    OutputExistsError, StorageError
        When a target is in the way or cannot be written.
    """
    from pyramidai_mpi.store.files.placing import check_target

    taken: dict[Path, Format] = {}
    for order in orders:
        if other := taken.get(order.target):
            raise UsageError(f"{order.target}: is named for {other} and for {order.format}; name two outputs")
        taken[order.target] = order.format
        order.keywords()
        if order.format.check:
            load(order.format.check)(order.target, slide_name, overwrite=overwrite, inputs=inputs)
        else:
            check_target(order.target, overwrite=overwrite, inputs=inputs)


def make(
    order: Order, result: Path, slide: Path | None = None, *, overwrite: bool = False, resume: bool = False
) -> bool:
    """Make one thing of a result and, where it lies beside the result, note of which result it is.

    Parameters
    ----------
    resume
        Leave alone what was made of this very result in the same way, and make anew what was made of another one.

    Returns
    -------
    bool
        Whether it was made.

    Raises
    ------
    UsageError
        The target's name is kept for the record.
    InputError, OutputExistsError, StorageError
        As `carry_out`; and with `resume`, when the target is none of this program's, or was changed.
    """
    from pyramidai_mpi.export.record import ExportRecord, Standing, record_path

    if order.target.absolute().parent != result.absolute().parent:
        carry_out(order, result, slide, overwrite=overwrite)
        return True
    if order.target.name == record_path(result).name:
        raise UsageError(f"{order.target}: is the name of the record of exports; name another output")
    record = ExportRecord(result)
    over_slide = slide is not None and order.format.draws_slide and order.variant is None
    origin = record.origin(order.format.name, order.way, over_slide=over_slide)
    standing = record.standing(order.target, origin, _files_of(order, record.slide_name))
    if resume and standing is Standing.CURRENT:
        return False
    if resume and standing is Standing.FOREIGN and not overwrite:
        raise OutputExistsError(
            f"{order.target}: nothing says of which result it is, or it was changed after it was made; move it away, "
            "or replace it with pyramidai export --overwrite"
        )
    replace = overwrite or (resume and standing is Standing.OLD)
    inputs = [result] if slide is None else [result, slide]
    check_orders([order], record.slide_name, overwrite=replace, inputs=inputs)
    record.begin(order.target, origin)
    carry_out(order, result, slide, overwrite=replace)
    record.end(order.target, origin, _files_of(order, record.slide_name))
    return True


def _files_of(order: Order, slide_name: str) -> list[Path]:
    """The files of an export that are there."""
    if order.format.files:
        found: list[Path] = load(order.format.files)(order.target, slide_name)
        return found
    return [order.target] if order.target.exists() else []


def carry_out(order: Order, result: Path, slide: Path | None = None, *, overwrite: bool = False) -> None:
    """Make one thing of a result.

    Raises
    ------
    InputError
        When the result cannot be read, is an encoder's and has no scores to show, or the slide is another one.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    if order.format.needs_scores and order.format in FORMATS:
        from pyramidai_mpi.store.results.reader import open_result
        from pyramidai_mpi.store.results.tables import read_header

        with open_result(result) as file:
            _ = read_header(file).score_column  # raises where there is none
    given = (slide,) if order.format.draws_slide and order.variant is None else ()
    write = load((order.variant or order.format).writer)
    write(result, order.target, *given, overwrite=overwrite, **order.keywords())


def load(function: str) -> Callable[..., Any]:
    """A function of this room, from ``module.name``; loads what it needs."""
    module, _, name = function.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(f"pyramidai_mpi.export.{module}"), name)
    return found
