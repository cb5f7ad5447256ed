"""The truth about one slide: its file found, read and put on the slide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyramidai_mpi.base.csv_reading import read_plain_text
from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.truth.asap import read_asap
from pyramidai_mpi.truth.coverage import cover_rings
from pyramidai_mpi.truth.geojson import is_collection, outlines_of_collection, outlines_of_geojson, read_json
from pyramidai_mpi.truth.geometry import TumorArea, no_tumor, tumor_area
from pyramidai_mpi.truth.label_mask import LabelMask, open_mask
from pyramidai_mpi.truth.outlines import ClassNames, OutlineFile

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt


NEGATIVE_LIST = "negative.txt"
"""File of a truth folder that names slides without tumour: one name a line, ``#`` begins a comment."""

_OUTLINES = (".xml", ".geojson", ".json", ".geojson.gz", ".json.gz")
_MASKS = ("_mask.tif", "_mask.tiff", ".tif", ".tiff")


@dataclass(frozen=True)
class TruthOptions:
    """How truth is read.

    Attributes
    ----------
    classes
        Which classes of outlines count.
    mask_value
        Pixel value of tumour in label masks; None: anything above 0.
    """

    classes: ClassNames = field(default_factory=ClassNames)
    mask_value: int | None = None


@dataclass(frozen=True)
class Truth:
    """Tumour of one slide.

    Attributes
    ----------
    source
        The file that says so.
    tumor
        Outlines' area, or a label mask.
    """

    source: Path
    tumor: TumorArea | LabelMask

    @property
    def notes(self) -> tuple[str, ...]:
        """What was repaired, clipped or left out."""
        return self.tumor.notes if isinstance(self.tumor, TumorArea) else ()

    def coverage(self, shape: tuple[int, int], step: float) -> npt.NDArray[np.int32]:
        """How much of each cell of a grid over the slide is tumour.

        Parameters
        ----------
        shape
            Rows and columns.
        step
            Side of a cell in level-0 pixels; the first one's corner is the slide's.

        Returns
        -------
        numpy.ndarray
            int32 of `shape`, 0 to `coverage.UNIT`. Exact for outlines, to half a unit.
        """
        if isinstance(self.tumor, LabelMask):
            return self.tumor.coverage(shape, step)
        return cover_rings(self.tumor.rings(), step, shape)


def read_truth(
    where: Path,
    slide: str,
    l0_size: tuple[int, int],
    options: TruthOptions | None = None,
    l0_bounds: tuple[int, int] = (0, 0),
) -> Truth:
    """What is known of a slide.

    Parameters
    ----------
    where
        A folder in which `find_annotation` looks, a CAMELYON16 collection of many slides, or this slide's own file
        (named like it).
    slide
        Its file name, with or without ending.
    l0_size
        Width and height in level-0 pixels.
    options
        How to read it.
    l0_bounds
        Corner of the slide's non-empty region: GeoJSON counts from there, as QuPath does. ASAP and masks do not.

    Raises
    ------
    InputError
        When there is no file for the slide, or it cannot be used.
    """
    options = options or TruthOptions()
    path = find_annotation(where, slide) if where.is_dir() else where
    stem = _stem(slide)
    if path.name == NEGATIVE_LIST:
        return Truth(path, no_tumor())
    if path.suffix.lower() in (".tif", ".tiff"):
        _check_name(path, stem)
        return Truth(path, open_mask(path, l0_size, options.mask_value))
    outlines = _read_outlines(path, stem, options.classes, l0_bounds)
    return Truth(path, tumor_area(path, outlines, options.classes, l0_size))


def read_outlines(where: Path, slide: str, l0_bounds: tuple[int, int] = (0, 0)) -> OutlineFile:
    """All outlines of a slide as they were drawn, of any class: nothing is repaired, joined or left out.

    Parameters
    ----------
    where
        A folder in which `find_annotation` looks, a CAMELYON16 collection of many slides, or this slide's own file,
        whatever its name.
    slide, l0_bounds
        As of `read_truth`.

    Raises
    ------
    InputError
        When there is no file for the slide, or it holds no outlines by its kind or cannot be read.
    """
    path = find_annotation(where, slide) if where.is_dir() else where
    if path.name == NEGATIVE_LIST:
        return OutlineFile(())
    if path.suffix.lower() in (".tif", ".tiff", ".png"):
        raise InputError(f"{path}: is a mask; outlines are in GeoJSON or ASAP's XML")
    if path.suffix.lower() == ".xml":
        return read_asap(path)
    document = read_json(path)
    if is_collection(document):
        return outlines_of_collection(path, document, _stem(slide))
    return outlines_of_geojson(path, document).shifted(l0_bounds)


def _read_outlines(path: Path, stem: str, classes: ClassNames, l0_bounds: tuple[int, int]) -> OutlineFile:
    if path.suffix.lower() == ".xml":
        _check_name(path, stem)
        return read_asap(path, frozenset(name.casefold() for name in (*classes.tumor, *classes.exclusion)))
    document = read_json(path)
    if is_collection(document):
        return outlines_of_collection(path, document, stem)
    _check_name(path, stem)
    return outlines_of_geojson(path, document).shifted(l0_bounds)


def _check_name(path: Path, stem: str) -> None:
    """A file given by name for several slides would label them all alike."""
    allowed = {f"{stem}{ending}".casefold() for ending in (*_OUTLINES, *_MASKS)}
    if path.name.casefold() not in allowed:
        raise InputError(f"{path}: is not named after slide {stem!r}; name it {stem}{path.suffix}, or give the folder")


def find_annotation(folder: Path, slide: str) -> Path:
    """The file of a truth folder that tells of a slide.

    Looked for, by the slide's name without ending and without regard to case: outlines (``NAME.xml``, ``NAME.geojson``,
    ``NAME.json``, either gzipped); where there are none, masks (``NAME_mask.tif``, then ``NAME.tif``, or ``.tiff``);
    and the slide's name in `NEGATIVE_LIST`, which is then returned. Outlines go first, so that slides and their
    outlines can share a folder.

    Raises
    ------
    InputError
        When there is none, or more than one.
    """
    stem = _stem(slide)
    with input_errors(folder):
        present = {path.name.casefold(): path for path in sorted(folder.iterdir()) if path.is_file()}
    outlines = [present[name] for ending in _OUTLINES if (name := f"{stem}{ending}".casefold()) in present]
    masks = [present[name] for ending in _MASKS if (name := f"{stem}{ending}".casefold()) in present]
    negative = folder / NEGATIVE_LIST
    said_negative = [negative] if stem.casefold() in _names_in(negative) else []
    # a slide in the list may lie in the folder itself, but not as a mask of that name
    found = [*(outlines or [mask for mask in masks[:1] if not said_negative or "_mask" in mask.stem]), *said_negative]
    if len(found) > 1:
        raise InputError(f"{folder}: {found[0].name} and {found[1].name} both tell of slide {stem!r}; keep one")
    if not found:
        raise InputError(
            f"{folder}: holds no truth for slide {stem!r}: looked for {stem} + {', '.join((*_OUTLINES, *_MASKS))}; a "
            f"slide without tumour is listed in {NEGATIVE_LIST} there, or has a file without any object"
        )
    return found[0]


def _names_in(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    # a name is there with its ending or without; a spreadsheet leaves empty cells behind it
    named = {line.partition("#")[0].strip().rstrip(",; \t") for line in read_plain_text(path).splitlines()} - {""}
    return {name.casefold() for name in named} | {_stem(name).casefold() for name in named}


def _stem(slide: str) -> str:
    return slide_stem(slide)
