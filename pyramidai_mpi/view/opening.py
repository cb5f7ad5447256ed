"""Opening what is to be viewed: a result, its slide where it is at hand, and annotations."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.export.cell_look import looks_of
from pyramidai_mpi.export.cells import cell_grid, is_dense
from pyramidai_mpi.export.picture import is_slide_of
from pyramidai_mpi.export.top_tiles import highest_windows
from pyramidai_mpi.slides.readers.trial import try_opening
from pyramidai_mpi.store.patches.record import patch_file
from pyramidai_mpi.store.results.reader import CheckedResult
from pyramidai_mpi.store.results.tables import read_header, read_mask_rows
from pyramidai_mpi.truth.truth import read_outlines
from pyramidai_mpi.view import shapes
from pyramidai_mpi.view.description import N_BEST, describe
from pyramidai_mpi.view.explained import open_explained
from pyramidai_mpi.view.grids import decision_table, score_picture, tissue_table
from pyramidai_mpi.view.maps import finest_of, read_maps
from pyramidai_mpi.view.readers import SlideReaders
from pyramidai_mpi.view.tiles import ViewTiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyramidai_mpi.store.results.tables import Header
    from pyramidai_mpi.view.explained import ExplainedView


@dataclass(frozen=True)
class View:
    """A result opened for viewing. Used by any number of threads.

    Attributes
    ----------
    result
        The result file.
    tiles
        Draws what is shown.
    description
        JSON of `description.describe`.
    scores, decisions, tissue
        See `grids`.
    annotations
        JSON of the annotations, see `shapes.Shapes.json`; None without any.
    note
        Why the slide is not shown; empty where it is.
    explained
        Explained tiles; None without any.
    """

    result: CheckedResult
    tiles: ViewTiles
    description: str
    scores: bytes
    decisions: bytes
    tissue: bytes
    annotations: str | None
    note: str
    explained: ExplainedView | None = None

    def regions(self) -> str:
        """JSON of the positive regions' outlines.

        Raises
        ------
        InputError
            When the result was changed since it was opened.
        """
        with self.result.open() as file:
            return shapes.positive_regions(file, self.tiles.header).json()


@contextmanager
def open_view(
    result: Path, slide: Path | None = None, annotations: Path | None = None, explained: Path | None = None
) -> Iterator[View]:
    """Open a result and what belongs to it.

    Parameters
    ----------
    result
        Result file.
    slide
        The slide it was made from; None looks for it beside the result, by its name.
    annotations
        GeoJSON or ASAP's XML, or a folder of such files; None shows none.
    explained
        Explained tiles of the slide; None shows none.

    Raises
    ------
    UsageError
        When the result has more cells than a browser draws.
    InputError
        When the result, the slide, the annotations or the explained tiles cannot be read, or the slide, or that of the
        explained tiles, is another one than the result's.
    """
    checked = CheckedResult.check(result)
    with checked.open() as file:
        header = read_header(file)
        _ = header.score_column  # it is scores that are shown: an encoder's result has none
        note = ""
        if slide is None:
            slide, note = _slide_beside(result, header)
        elif not is_slide_of(slide, header):
            raise InputError(f"{slide}: is not the slide that {result} was made from ({header.slide.name})")
        drawn = None
        if annotations is not None:
            found = read_outlines(annotations, header.slide.name, header.slide.l0_bounds)
            if not found.outlines:
                raise InputError(f"{annotations}: holds no outline of {header.slide.name}; nothing could be shown")
            drawn = shapes.drawn_outlines(found).json()
        over = None if explained is None else open_explained(explained, result, header)
        mask = read_mask_rows(file, 0, header.mask_shape[0])
        maps, last_look = read_maps(file, header), looks_of(file, header)
        scores, decisions = score_picture(last_look), decision_table(finest_of(maps, cell_grid(header)))
        best = highest_windows(file, header, N_BEST) if is_dense(header) else []
    if slide is not None:
        with try_opening(slide, "auto") as trial:
            trial.check()
    readers = None if slide is None else SlideReaders(slide)
    try:
        if readers is not None and readers.info.l0_size != header.slide.l0_size:
            raise InputError(f"{slide}: has {readers.info.l0_size} pixels, its result says {header.slide.l0_size}")
        tiles = ViewTiles(header, maps, mask, readers, tuple(best))
        said = describe(tiles, annotations=None if annotations is None else annotations.name, note=note)
        said["explained"] = None if over is None else over.describe()
        text = json.dumps(said, allow_nan=False)
        yield View(checked, tiles, text, scores, decisions, tissue_table(mask), drawn, note, over)
    finally:
        if readers is not None:
            readers.close()


def _slide_beside(result: Path, header: Header) -> tuple[Path | None, str]:
    """The result's slide in the same folder, or why there is none."""
    name = header.slide.name
    if not name or Path(name).name != name or "\0" in name:  # a result may say anything: it names a file here, or none
        return None, "The result gives no file name of its slide; give it with --slide. Its tissue mask is shown."
    path = result.parent / name
    if not path.is_file() and (patches := result.parent / patch_file(path)).is_file() and is_slide_of(patches, header):
        return patches, ""
    if not path.is_file():
        return None, "The slide is not beside its result; give it with --slide. Its tissue mask is shown."
    if not is_slide_of(path, header):
        return None, "A file of the slide's name beside the result is another slide. Its tissue mask is shown."
    return path, ""
