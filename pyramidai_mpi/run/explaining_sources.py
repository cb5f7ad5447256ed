"""Which slides are meant by words that name results or slides, and where the slides of results lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from pyramidai_mpi.base.errors import InputError, UsageError, input_errors
from pyramidai_mpi.base.patch_order import is_patch_file
from pyramidai_mpi.run.selection import select_slides
from pyramidai_mpi.slides.dicom import dicom_slide_in, file_of_slide
from pyramidai_mpi.store.explanations.contents import ENDING
from pyramidai_mpi.store.patches.record import patch_file
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import read_header

_RESULTS = (".h5", ".hdf5")


class Source(NamedTuple):
    """A slide, and its result; None where none was named."""

    slide: Path
    result: Path | None


def find_sources(
    words: tuple[Path, ...], slide: Path | None, *, results_wanted: bool
) -> tuple[tuple[Source, ...], bool]:
    """The slides that words mean, and whether they were asked for as many.

    Parameters
    ----------
    words
        Results, slides, folders of either, and patterns.
    slide
        Where results' slides lie: the file of a single one, or a folder; None looks beside each result.
    results_wanted
        Whether a folder is one of results.

    Raises
    ------
    UsageError
        When `slide` is a file for several results, or none was named, or a slide has two results.
    InputError
        When a result cannot be read, its slide is not found, or a folder holds nothing that could be meant.
    """
    named: list[Path] = []
    is_cohort = len(words) > 1
    for word in words:
        if results_wanted and os.path.isdir(word) and dicom_slide_in(word) is None:  # noqa: PTH112
            named += _results_in(word)
            is_cohort = True
        else:
            selection = select_slides([word], None)
            named += [entry.slide for entry in selection.entries]
            is_cohort |= selection.is_cohort
    results = [path for path in named if _is_result(path)]
    if slide is not None and not results:
        raise UsageError(f"--slide {slide}: is the slide of a result, and no result was named; leave it out")
    if slide is not None and not slide.is_dir() and len(results) > 1:
        raise UsageError(f"--slide {slide}: is one slide for {len(results)} results; give the folder they lie in")
    sources = tuple(
        Source(_slide_of(path, slide, is_cohort=is_cohort), path) if path in results else Source(path, None)
        for path in named
    )
    _check_different(sources)
    return sources, is_cohort


def _check_different(sources: tuple[Source, ...]) -> None:
    """See that no slide has two results; of slides that are named twice their files tell."""
    owners: dict[str, Source] = {}
    for one in sources:
        other = owners.setdefault(os.path.abspath(one.slide), one)  # noqa: PTH100  (keeps links)
        if other is not one and (one.result is not None or other.result is not None):
            first, second = (source.result or source.slide for source in (other, one))
            raise UsageError(f"{first} and {second}: are of the same slide {one.slide}; explain them into two folders")


def find_source(word: Path, slide: Path | None) -> Source:
    """The slide that a single word means; raises as `find_sources`."""
    sources, is_cohort = find_sources((word,), slide, results_wanted=False)
    if is_cohort:
        raise UsageError(f"{word}: means several slides; give one")
    return sources[0]


def _is_result(path: Path) -> bool:
    return path.name.lower().endswith(_RESULTS) and not is_patch_file(path)


def _results_in(folder: Path) -> list[Path]:
    with input_errors(folder):
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found = [path for path in files if _is_result(path) and not path.name.endswith(ENDING)]
    if not found:
        raise InputError(f"{folder}: holds no result; looked for *{', *'.join(_RESULTS)}")
    return found


def _slide_of(result: Path, slide: Path | None, *, is_cohort: bool) -> Path:
    """The slide of a result; of several, whoever opens it says that it is missing."""
    if slide is not None and (not slide.is_dir() or dicom_slide_in(slide) is not None):
        return file_of_slide(slide)
    with open_result(result) as file:
        name = read_header(file).slide.name
    folder = result.parent if slide is None else slide
    if not name or Path(name).name != name or "\0" in name:  # a result may say anything: it names a file here, or none
        raise InputError(f"{result}: gives no file name of its slide; give it with --slide")
    path = folder / name
    if path.exists() or is_cohort:
        return file_of_slide(path)
    if (patches := folder / patch_file(path)).is_file():
        return patches
    raise InputError(f"{result}: its slide {name} is not in {folder}; give it with --slide")
