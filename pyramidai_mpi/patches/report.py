"""A file of patches as one page that opens anywhere: a contact sheet, places, shares, and how they were taken."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, printable
from pyramidai_mpi.export.page import page_of
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.patches.label_colours import css_colours
from pyramidai_mpi.patches.places import kept_base, place_layers, slide_base
from pyramidai_mpi.patches.shares import MEASURED, Spreads, histograms, percent
from pyramidai_mpi.patches.sheet import draw_sheet, sheet
from pyramidai_mpi.patches.slide_windows import opened_slide, window_reader
from pyramidai_mpi.patches.tally import label_places
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import ORIGINS, PLACES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.patches.folds import Folds
    from pyramidai_mpi.store.patches.record import PatchHeader

PER_LABEL = 24
_MOST_FAILED = 20
_MOST_ROWS = 200


@dataclass(frozen=True)
class LabelRow:
    """What there is of a label: patches, their share of all, and mean shares in words, in the order of `MEASURED`."""

    label: str
    colour: str
    n_patches: int
    part: float
    means: list[str]


def write_patch_report(
    path: Path,
    target: Path,
    slide: Path | None = None,
    *,
    per_label: int = PER_LABEL,
    seed: int = 0,
    folds: Folds | None = None,
    overwrite: bool = False,
) -> None:
    """Write an HTML page of a file of patches.

    Parameters
    ----------
    path
        The file.
    target
        HTML file to write; it refers to nothing outside itself.
    slide
        The slide that the patches are of; it is shown below their places, and lends its pixels to a file without any.
    per_label
        Patches of each label on the contact sheet.
    seed
        Of their draw.
    folds
        Says which fold the file is in.
    overwrite
        Replace an existing page.

    Raises
    ------
    InputError
        When the file is not sound, the slide is another one or cannot be read, or the folds do not name the file.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    inputs = [path, *([] if slide is None else [slide]), *([] if folds is None else [folds.path])]
    with placed(target, overwrite=overwrite, inputs=inputs) as temporary:
        facts = {} if folds is None else {"fold": f"{folds.fold_of(path)} of {folds.n_folds} ({folds.path.name})"}
        temporary.write_text(_page(path, slide, per_label, seed, facts), encoding="utf-8")


def _page(path: Path, slide: Path | None, per_label: int, seed: int, further_facts: Mapping[str, str]) -> str:
    with ExitStack() as stack:
        file = stack.enter_context(PatchFile(path))
        header, table, settings = file.header, file.patches, file.header.settings
        has_places = settings.places != PLACES[2]
        if slide is not None and not has_places:
            raise InputError(f"{path}: its patches are pictures of no known slide; leave out --slide")
        reader = None if slide is None else stack.enter_context(opened_slide(slide, file))
        labels, label = label_places(settings.label_names, table["label"])
        n_of = list(np.bincount(label, minlength=len(labels)).tolist())
        colours = css_colours(labels)
        spreads = Spreads()
        spreads.add(table, labels, label)
        chosen = draw_sheet(table, label, len(labels), per_label, seed, header.slide.quickhash)
        read: Callable[[int], RgbArray] | None = None
        if settings.pixels != "none":
            read = stack.enter_context(open_patches(path)).patch
        elif reader is not None:
            read = window_reader(reader, file, table)
        strips = sheet(table, labels, chosen, n_of, read)
        base = None
        if has_places:
            base = kept_base(file, read) if reader is None else slide_base(reader)
        return page_of(
            "patches.html",
            name=printable(header.slide.name),
            file_name=printable(path.name),
            header=header,
            colours=colours,
            strips=strips,
            n_not_shown=sum(n > 0 for n in n_of) - len(strips),
            sheet_from=_sheet_from(header, has_slide=reader is not None),
            n_flawed=sum(bool(card.flaw) for strip in strips for card in strip.cards),
            base=base,
            layers=place_layers(header, table, labels, label) if base else [],
            l0_side=settings.size * settings.downsample,
            n_labels=len(labels),
            rows=label_rows(spreads, labels, n_of),
            histograms=histograms(spreads, labels, colours),
            failed=[_failure(each) for each in file.failed[:_MOST_FAILED]],
            seed=seed,
            origin={name: printable(header.slide.origin.get(name, "")) for name in ORIGINS},
            has_limits=not (math.isnan(settings.max_white) and math.isnan(settings.max_black)),
            left_out=header.n_cells - header.n_patches - header.n_failed - header.n_refused,
            facts=_facts(file) | dict(further_facts),
        )


def _sheet_from(header: PatchHeader, *, has_slide: bool) -> str:
    """Where the pixels of the sheet come from, in a sentence; empty where there are none."""
    if header.settings.pixels != "none":
        return "Their pixels are those of the file."
    return "The file keeps no pixels: these are of the slide." if has_slide else ""


def label_rows(spreads: Spreads, labels: Sequence[str], n_of: Sequence[int]) -> list[LabelRow]:
    """What there is of each label, of the first two hundred."""
    colours, whole = css_colours(labels), max(1, sum(n_of))
    return [
        LabelRow(
            label,
            colours[label],
            n,
            n / whole,
            [percent(spreads.of(share, label).mean) if n else "–" for share in MEASURED],
        )
        for label, n in zip(labels[:_MOST_ROWS], n_of, strict=False)
    ]


def _failure(failed: np.void) -> tuple[str, str]:
    reason = bytes(failed["reason"]).rstrip(b"\0").decode("utf-8", errors="replace")
    return f"column {failed['col']}, row {failed['row']}", printable(reason)


def _facts(file: PatchFile) -> dict[str, str]:
    """How the patches were taken, and of what."""
    header, settings, execution = file.header, file.header.settings, file.execution()
    slide, store = header.slide, header.tiles
    facts = {
        "slide": slide.name,
        "slide size": f"{slide.l0_size[0]} x {slide.l0_size[1]} px",
        "slide µm/px": f"{slide.mpp:g}",
        "format": slide.vendor,
        "quick hash": slide.quickhash,
    }
    facts |= {name: slide.origin.get(name, "not known") for name in ORIGINS}
    if header.images is not None:
        facts["pictures"] = f"one a patch ({header.images.coding}), {header.image_bytes / 1e6:.1f} MB"
    facts["stored tiles"] = (
        "" if store is None else f"{header.n_tiles} ({store.coding}), {header.tile_bytes / 1e6:.1f} MB"
    )
    facts |= {name.replace("_", " "): _in_words(value) for name, value in asdict(settings).items()}
    facts["labels"] = ", ".join(settings.label_names)
    facts |= {"written": header.created, "by version": header.software_version, "digest": header.digest}
    facts |= {name.replace("_", " "): str(value) for name, value in execution.attributes.items()}
    return {name: printable(value) for name, value in facts.items() if value}


def _in_words(value: object) -> str:
    """A setting as a page says it; empty for one that was not set."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return "" if value in (-1, "{}", "[]") else str(value)
