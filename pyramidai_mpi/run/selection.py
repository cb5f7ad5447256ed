"""Which slides a command means: files, folders, patterns, and tables of slides."""

from __future__ import annotations

import glob
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.csv_reading import SEPARATORS, read_csv, read_number
from pyramidai_mpi.base.errors import InputError, UsageError, input_errors
from pyramidai_mpi.base.patch_order import ENDING, is_patch_file, slide_stem
from pyramidai_mpi.base.slide_names import SLIDE_ENDINGS
from pyramidai_mpi.slides.dicom import dicom_slide_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.base.csv_reading import Row

_NO_SLIDES = (".heatmap.tif",)
"""Endings of what ``run --export`` makes, which may lie beside the slides."""

_COLUMNS = ("wsi", "mpp", "output")


@dataclass(frozen=True)
class SlideEntry:
    """A slide to analyse.

    Attributes
    ----------
    slide
        Its file.
    mpp
        µm per level-0 pixel; None where nothing is said of it.
    name
        File name of its result; None for the slide's own stem.
    """

    slide: Path
    mpp: float | None = None
    name: str | None = None


@dataclass(frozen=True)
class Selection:
    """The slides of a command.

    Attributes
    ----------
    entries
        In the order of the command line; those of a folder or pattern by name.
    is_cohort
        Whether they were asked for as many: by several words, a folder, a pattern or a table, of however many slides.
    """

    entries: tuple[SlideEntry, ...]
    is_cohort: bool


def select_slides(words: Sequence[Path], table: Path | None) -> Selection:
    """The slides that a command line names.

    Parameters
    ----------
    words
        Files, folders of slides, folders that are a DICOM slide each, and patterns that the shell has left alone. A
        file that is not there is kept: whoever opens it says so.
    table
        See `read_slide_table`.

    Raises
    ------
    UsageError
        When nothing is named.
    InputError
        When a folder, pattern or table holds no slide or cannot be read, or a folder several DICOM slides.
    """
    if not words and table is None:
        raise UsageError("Missing argument 'SLIDE...', or --slides LIST.csv")
    entries: list[SlideEntry] = []
    is_cohort = table is not None or len(words) > 1
    for word in words:
        # os.path says no where pathlib raises: a name that is too long, a folder that cannot be entered
        if os.path.isdir(word):  # noqa: PTH112
            if (dicom := dicom_slide_in(word)) is not None:
                # its files are named by numbers
                entries.append(SlideEntry(dicom, name=f"{word.resolve().name}.h5"))
                continue
            found = _slides_in(word)
        elif glob.has_magic(os.fspath(word)) and not os.path.lexists(word):
            found = _slides_like(word)
        else:
            entries.append(SlideEntry(word))
            continue
        is_cohort = True
        entries.extend(map(SlideEntry, found))
    if table is not None:
        entries.extend(read_slide_table(table))
    return Selection(tuple(entries), is_cohort)


def _slides_in(folder: Path) -> list[Path]:
    with input_errors(folder):
        files = sorted(path for path in folder.iterdir() if path.is_file())
    found = [path for path in files if _is_slide_name(path.name)]
    # files of patches beside slides are of these slides, most likely
    found = found or [path for path in files if is_patch_file(path) and not path.name.startswith(".")]
    if not found:
        raise InputError(f"{folder}: holds no slide; looked for *{', *'.join((*SLIDE_ENDINGS, ENDING))}")
    return found


def _is_slide_name(name: str) -> bool:
    lower = name.casefold()
    return not lower.startswith(".") and lower.endswith(SLIDE_ENDINGS) and not lower.endswith(_NO_SLIDES)


def _slides_like(pattern: Path) -> list[Path]:
    # a MIRAX slide has a folder of its own name beside it
    found = sorted(path for path in map(Path, glob.glob(os.fspath(pattern), recursive=True)) if not path.is_dir())  # noqa: PTH207
    if not found:
        raise InputError(f"{pattern}: no file of such a name; check the pattern")
    return found


def read_slide_table(path: Path) -> list[SlideEntry]:
    """Read a table of slides: a line of names, column ``wsi`` and, if wanted, ``mpp`` and ``output``; see `read_csv`.

    Relative paths are relative to the table's folder. ``output`` is a plain file name for the result, which goes to the
    results' folder whatever the table says; ``.h5`` is added where it lacks.

    Raises
    ------
    InputError
        Names the line: a column is missing, unknown or there twice, a row has too many cells or no slide, a value is
        none, a slide is there twice; or the file is empty or cannot be read.
    UsageError
        Two slides have one output.
    """
    table = read_csv(path, _has_known_columns)
    if not table.rows:
        raise InputError(f"{path}: is empty; expected a line wsi,mpp,output and then a line for each slide")
    (header, names), *rows = table.rows
    columns = _columns(f"{path}: line {header}", names)
    entries: list[SlideEntry] = []
    line_of_slide: dict[str, int] = {}
    line_of_output: dict[str, int] = {}
    for line, cells in rows:
        where = f"{path}: line {line}"
        entry = _entry(where, path.parent, columns, cells, table.separator)
        first = line_of_slide.setdefault(os.path.abspath(entry.slide), line)  # noqa: PTH100  (keeps links)
        if first != line:
            raise InputError(f"{where}: slide {entry.slide.name} is in line {first} already; keep one")
        output = entry.name or result_name(entry.slide)
        first = line_of_output.setdefault(output, line)
        if first != line:
            raise UsageError(
                f"{where}: its result would be {output}, as that of line {first}; "
                "give one of them another name in the column output"
            )
        entries.append(entry)
    if not entries:
        raise InputError(f"{path}: names no slide; expected a line for each slide after line {header}")
    return entries


def result_name(slide: Path) -> str:
    """File name of a slide's result where nothing else is said."""
    return f"{slide_stem(slide)}.h5"


def _has_known_columns(rows: Sequence[Row]) -> bool:
    return bool(rows) and all(name.strip().casefold() in _COLUMNS for name in rows[0].cells)


def _columns(where: str, names: Sequence[str]) -> list[str]:
    columns = [name.strip().casefold() for name in names]
    for name in columns:
        if name not in _COLUMNS:
            raise InputError(f"{where}: unknown column {name!r:.80}; expected wsi and, if wanted, mpp and output")
        if columns.count(name) > 1:
            raise InputError(f"{where}: column {name} is there twice; keep one")
    if "wsi" not in columns:
        raise InputError(f"{where}: no column wsi, which names the slides; the first line names the columns")
    return columns


def _entry(where: str, folder: Path, columns: Sequence[str], cells: Sequence[str], separator: str) -> SlideEntry:
    if len(cells) > len(columns):
        raise InputError(
            f"{where}: {len(cells)} cells for {len(columns)} columns; put what holds {separator!r} in double quotes"
        )
    row = dict(zip(columns, cells, strict=False))  # a row may end early
    if not row["wsi"].strip():
        raise InputError(f"{where}: names no slide in column wsi")
    if "\0" in row["wsi"]:
        raise InputError(f"{where}: a slide's name holds a zero byte; save the table as plain UTF-8 text")
    slide = folder / row["wsi"]
    if not os.path.lexists(slide):  # the blanks around a name are part of it only where there is such a file
        slide = folder / row["wsi"].strip()
        others = [mark for mark in SEPARATORS if mark != separator and mark in row["wsi"]]
        if others and not os.path.lexists(slide):
            raise InputError(
                f"{where}: {row['wsi']!r:.200} is no file; cells are separated by {separator!r} in this table"
            )
    return SlideEntry(slide, _mpp(where, row.get("mpp", "")), _name(where, row.get("output", "")))


def _mpp(where: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        mpp = read_number(text)
    except ValueError:
        mpp = math.nan
    if not (math.isfinite(mpp) and mpp > 0):
        raise InputError(f"{where}: mpp {text!r:.80}: expected a number of µm per pixel above 0, or nothing")
    return mpp


def _name(where: str, text: str) -> str | None:
    if not text.strip():
        return None
    text = text.strip()
    if text in {".", ".."} or "/" in text or "\0" in text:
        raise InputError(
            f"{where}: output {text!r:.200}: expected a file name without folders; see --results-dir for those"
        )
    return text if text.endswith(".h5") else f"{text}.h5"


def plan_outputs(
    slides: Sequence[Path], output: Path | None, results_dir: Path | None, names: Sequence[str | None] = ()
) -> list[Path]:
    """Result file of every slide: ``-o``, or its name or the slide's stem in the results folder or the current one.

    Parameters
    ----------
    names
        File names of the results, None for the slide's stem; none at all for all stems.

    Raises
    ------
    UsageError
        When ``-o`` meets several slides or ``--results-dir``, or two slides would share one name.
    """
    if output is not None and results_dir is not None:
        raise UsageError("-o and --results-dir exclude each other; give one")
    if output is not None:
        if len(slides) > 1:
            raise UsageError(f"-o names one file for {len(slides)} slides; use --results-dir")
        return [output]
    folder = results_dir or Path()
    outputs = [
        folder / (name or result_name(slide)) for slide, name in zip(slides, names or [None] * len(slides), strict=True)
    ]
    owners: dict[Path, Path] = {}
    for slide, path in zip(slides, outputs, strict=True):
        if path in owners and os.path.abspath(owners[path]) == os.path.abspath(slide):  # noqa: PTH100  (keeps links)
            raise UsageError(f"{slide}: is named twice; name it once")
        if path in owners:
            raise UsageError(f"{owners[path]} and {slide} would both be written to {path}; run them into two folders")
        owners[path] = slide
    return outputs
