"""Slides decoded once: their darkness and labels kept in files of the work folder, made by all ranks together.

Decoding takes 22 ms of CPU a megapixel where a step takes 44, so what is decoded at each step, halos too, would add two
thirds to it. What is kept takes 1.125 bytes a pixel: 1.15 GB of an image of 64000 x 16000.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.damage import DAMAGE
from pyramidai_mpi.base.errors import InputError, StorageError
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.ranks.alike import agree_on_folder
from pyramidai_mpi.ranks.collectives import share_bytes
from pyramidai_mpi.run.slide_plane import PlaneFacts, SlidePlane
from pyramidai_mpi.training.whole.images import KeptImage, bytes_of_row, cells_of, darkness_of
from pyramidai_mpi.training.whole.tissue_recipe import reduced_darkness, scaled_up, tissue_of
from pyramidai_mpi.truth.outlines import ClassNames
from pyramidai_mpi.truth.pixel_labels import PixelLabels
from pyramidai_mpi.truth.truth import TruthOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.ranks.unit_pool import UnitPool

_PIECE = (4096, 1024)
"""Width and height of what is decoded at a time: 12.6 MB in colours."""
_BAND = 512
"""Rows of labels that are made at a time: a multiple of the cells of `images.CELL` and of the recipe's reduction."""
RECIPE = "tissue-recipe"


@dataclass(frozen=True)
class ImageOrder:
    """What images are made of slides.

    Attributes
    ----------
    masks
        Folder of what was drawn, see `truth.pixel_labels`; None for the recipe.
    level, um_px
        See `SlidePlane`.
    mpp
        µm per level-0 pixel, for slides that do not say.
    classes
        Of outlines, those that are marked.
    mask_value
        Of label masks, the marked value; None for all above 0.
    """

    masks: Path | None
    level: int = 0
    um_px: float | None = None
    mpp: float | None = None
    classes: tuple[str, ...] = ("tissue",)
    mask_value: int | None = None

    def open(self, slide: Path, *, is_known: bool) -> SlidePlane:
        """Open a slide."""
        return SlidePlane(slide, self.level, self.um_px, self.mpp, is_known=is_known)

    def labels(self, facts: PlaneFacts) -> PixelLabels:
        """What was drawn of a slide."""
        assert self.masks is not None
        classes = replace(ClassNames.from_caller(self.classes), option="--mask-class", what=", ".join(self.classes))
        options = TruthOptions(classes, self.mask_value)
        return PixelLabels(
            self.masks, facts.path.name, facts.l0_size, facts.l0_bounds, facts.size, facts.downsample, options
        )

    def label_mark(self, facts: PlaneFacts) -> str:
        """Tells one way to label a slide from another."""
        if self.masks is None:
            return RECIPE
        return f"{file_sha256(self.labels(facts).source)} {sorted(self.classes)} {self.mask_value}"


@dataclass(frozen=True)
class KeptSlide:
    """A slide that is kept: where, and what of it.

    Attributes
    ----------
    facts
        Of the slide's picture.
    mark
        Tells picture and labels from all others.
    dark_path, marks_path
        Files of the darkness and of the labels, see `KeptImage`.
    is_decoded, is_labelled
        Whether rank 0 has found them there.
    """

    facts: PlaneFacts
    mark: str
    dark_path: Path
    marks_path: Path
    is_decoded: bool
    is_labelled: bool

    @property
    def cells_path(self) -> Path:
        """File of the cells in which something is marked."""
        return self.marks_path.with_suffix(".npy")

    @property
    def bytes_needed(self) -> int:
        """What the files take that are not there yet."""
        width, height = self.facts.size
        needed = 0 if self.is_decoded else width * height
        return needed + (0 if self.is_labelled else bytes_of_row(width) * height)

    def image(self) -> KeptImage:
        """What can be trained on, once it is kept.

        Raises
        ------
        StorageError
            Its files cannot be read here.
        """
        try:
            # mapped first, which takes no memory for what a damaged file claims to hold
            cells = np.array(np.load(self.cells_path, mmap_mode="r"))
        except DAMAGE as error:
            raise StorageError(
                f"{self.cells_path}: cannot be read: {error}; --work must be a folder that all hosts share"
            ) from error
        return KeptImage(self.facts.path.name, self.facts.size, self.dark_path, self.marks_path, cells)


def keep_slides(
    pool: UnitPool,
    slides: Sequence[Path],
    order: ImageOrder,
    folder: Path,
    phase: Callable[[str], None] = lambda _: None,
) -> list[KeptSlide]:
    """Decode slides and label them where that was not done before. Collective.

    Parameters
    ----------
    pool
        The ranks, which must all see `folder`.
    slides, order
        Which, and what of them.
    folder
        Where they are kept; it is there.
    phase
        Told on rank 0 what is done, in a few words.

    Raises
    ------
    InputError
        A slide or what was drawn of it cannot be used.
    StorageError
        The folder has no room, cannot be written, or is not the same for all ranks.
    PoolStoppedError
        See `UnitPool`; what is done is kept.
    """
    if pool.comm is not None:
        agree_on_folder(pool.comm, folder)
    kept = _described(pool, slides, order, folder)
    _refuse_copies(kept)
    is_first = pool.rank == 0

    def make_room() -> None:
        needed = sum(slide.bytes_needed for slide in kept)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise StorageError(
                f"{folder}: the slides' pixels take {needed / 1e9:.1f} GB there, and {free / 1e9:.1f} GB are free; "
                "give another folder with --work, coarser pixels with --mpp or --level, or fewer slides"
            )
        for slide in kept:
            if not slide.is_decoded:
                width, height = slide.facts.size
                with _partial(slide.dark_path).open("wb") as file:
                    file.truncate(width * height)

    pool.on_rank0(partial(_named, folder, make_room))
    undecoded = [slide for slide in kept if not slide.is_decoded]
    pieces = [(slide, *corner) for slide in undecoded for corner in _corners(slide.facts.size)]
    if pieces:
        if is_first:
            phase(f"decoding {len(undecoded)} of {len(kept)} slides")
        decoder = _Decoder(order)
        try:
            pool.do(len(pieces), lambda unit: _named(folder, partial(decoder.keep, *pieces[unit])))
        finally:
            decoder.close()

        def give_names() -> None:
            for slide in undecoded:
                _partial(slide.dark_path).replace(slide.dark_path)

        pool.on_rank0(partial(_named, folder, give_names))
    unlabelled = [slide for slide in kept if not slide.is_labelled]
    if unlabelled:
        if is_first:
            phase(f"labelling {len(unlabelled)} of {len(kept)} slides")
        pool.do(len(unlabelled), lambda unit: _named(folder, partial(_label, unlabelled[unit], order)))
    return kept


def _described(pool: UnitPool, slides: Sequence[Path], order: ImageOrder, folder: Path) -> list[KeptSlide]:
    """Rank 0 looks at each slide, after a child has; all hear of it."""

    def look() -> bytes:
        return json.dumps([_look_at(slide, order, folder) for slide in slides]).encode()

    told = pool.on_rank0(look)
    if pool.comm is not None:
        told = share_bytes(pool.comm, told)
    assert told is not None
    kept = []
    for slide, (facts, mark, stem, is_decoded, is_labelled) in zip(slides, json.loads(told), strict=True):
        quickhash, size, downsample, um_px, l0_size, l0_bounds = facts
        of_slide = PlaneFacts(slide, quickhash, tuple(size), downsample, um_px, tuple(l0_size), tuple(l0_bounds))
        paths = folder / f"{stem}.dark", folder / f"{stem}-{mark}.marks"
        kept.append(KeptSlide(of_slide, mark, *paths, is_decoded, is_labelled))
    return kept


def _look_at(slide: Path, order: ImageOrder, folder: Path) -> list[object]:
    plane = order.open(slide, is_known=False)
    facts = plane.facts
    plane.close()
    of_pixels = _short(f"{facts.quickhash} {facts.size} {facts.downsample}")
    mark = _short(f"{of_pixels} {order.label_mark(facts)}")
    stem = f"{slide.stem[:60]}-{of_pixels}"
    return [
        [facts.quickhash, facts.size, facts.downsample, facts.um_px, facts.l0_size, facts.l0_bounds],
        mark,
        stem,
        (folder / f"{stem}.dark").exists(),
        (folder / f"{stem}-{mark}.marks").exists(),
    ]


def _refuse_copies(slides: Sequence[KeptSlide]) -> None:
    """See that no slide is there twice: it could be learnt from and held out at once, and their files are one."""
    first: dict[tuple[str, tuple[int, int]], Path] = {}
    for slide in slides:
        path = slide.facts.path
        other = first.setdefault((slide.facts.quickhash, slide.facts.size), path)
        if other != path:
            error = InputError(f"{path}: is the same picture as {other}; leave one of them out")
            error.agreed = True  # all ranks know of the slides what rank 0 has told
            raise error


class _Decoder:
    """Reads pieces of slides, of which it keeps the last one open."""

    def __init__(self, order: ImageOrder) -> None:
        self._order = order
        self._slide: KeptSlide | None = None
        self._plane: SlidePlane | None = None

    def keep(self, slide: KeptSlide, left: int, top: int) -> None:
        """Write the piece with this corner."""
        if slide is not self._slide or self._plane is None:
            self.close()
            self._slide, self._plane = slide, self._order.open(slide.facts.path, is_known=True)
            if self._plane.facts.quickhash != slide.facts.quickhash:
                raise InputError(f"{slide.facts.path}: is another file here than on rank 0; give all hosts the same")
        width, height = slide.facts.size
        size = (min(_PIECE[0], width - left), min(_PIECE[1], height - top))
        dark = darkness_of(self._plane.read((left, top), size))
        descriptor = os.open(_partial(slide.dark_path), os.O_WRONLY)
        try:
            for number, row in enumerate(dark):
                os.pwrite(descriptor, row, (top + number) * width + left)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the open slide, if any."""
        if self._plane is not None:
            self._plane.close()
        self._slide = self._plane = None


def _label(slide: KeptSlide, order: ImageOrder) -> None:
    """Write a slide's labels, and the cells in which there are any."""
    rows_of = _recipe_rows(slide) if order.masks is None else order.labels(slide.facts).rows
    cells = []
    with _partial(slide.marks_path).open("wb") as file:
        for first in range(0, slide.facts.size[1], _BAND):
            rows = rows_of(first, min(first + _BAND, slide.facts.size[1]))
            file.write(np.packbits(rows, axis=1).tobytes())
            cells.append(cells_of(rows))
    with slide.cells_path.open("wb") as file:
        np.save(file, np.concatenate(cells))
    _partial(slide.marks_path).replace(slide.marks_path)


def _recipe_rows(slide: KeptSlide) -> Callable[[int, int], npt.NDArray[np.bool_]]:
    width, height = slide.facts.size
    with slide.dark_path.open("rb") as file:
        bands = (
            np.frombuffer(file.read(min(_BAND, height - first) * width), np.uint8).reshape(-1, width)
            for first in range(0, height, _BAND)
        )
        tissue = tissue_of(reduced_darkness(bands))
    return lambda first, last: scaled_up(tissue, first, last, width)


def _corners(size: tuple[int, int]) -> list[tuple[int, int]]:
    return [(left, top) for top in range(0, size[1], _PIECE[1]) for left in range(0, size[0], _PIECE[0])]


def _partial(path: Path) -> Path:
    return path.with_name(f"partial-{path.name}")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _named(folder: Path, action: Callable[[], None]) -> None:
    """Do something; what the disk says becomes a line."""
    try:
        action()
    except OSError as error:
        raise StorageError(f"{folder}: cannot write there: {error.strerror or error}") from error
