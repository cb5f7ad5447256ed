"""Exhaustive results and their truth as cohorts to tune on and to test on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.truth.labels import DEFAULT_MIN_SHARE, read_labelled
from pyramidai_mpi.tuning.cohort import Cohort

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.truth.truth import TruthOptions


@dataclass(frozen=True)
class SlideId:
    """A slide that thresholds were chosen on.

    Attributes
    ----------
    name, quickhash
        Its name and quick hash, as in its result.
    """

    name: str
    quickhash: str


@dataclass(frozen=True)
class LabelledSlides:
    """Slides of one model.

    Attributes
    ----------
    cohort
        Scores and labels.
    slides
        Which slides they are of, in the cohort's order.
    model_name, level_sha256
        The model that gave the scores.
    min_share
        Share of a tile's tissue that had to be tumour.
    from_below
        Whether tiles above level 0 are positive where any level-0 descendant is, whatever their own share.
    notes
        What was odd about the truth, one line each.
    """

    cohort: Cohort
    slides: tuple[SlideId, ...]
    model_name: str
    level_sha256: tuple[str, ...]
    min_share: float
    from_below: bool
    notes: tuple[str, ...]


def read_labelled_slides(
    results: Sequence[Path],
    truth: Path,
    *,
    min_share: float = DEFAULT_MIN_SHARE,
    from_below: bool = False,
    options: TruthOptions | None = None,
    like: LabelledSlides | None = None,
) -> LabelledSlides:
    """Read exhaustive results and label their tiles.

    Parameters
    ----------
    results
        Result files, at least one.
    truth
        See `truth.truth.read_truth`.
    min_share, options
        See `truth.labels.read_labelled`.
    from_below
        See `LabelledTree.labelled_from_below`.
    like
        Other slides, of the same model; none of these may be among them.

    Raises
    ------
    InputError
        When a result or truth cannot be used, a result is of another mode or model, two have different thresholds at
        level 0, or a slide is there twice.
    """
    seen: dict[str, Path | str] = {slide.quickhash: "the training slides" for slide in (like.slides if like else ())}
    sha256, l0 = (like.level_sha256, like.cohort.l0_threshold) if like else (None, None)
    trees, slides, notes, name = [], [], [], ""
    for path in results:
        labelled = read_labelled(path, truth, min_share=min_share, options=options)
        tree = labelled.tree()
        trees.append(tree.labelled_from_below() if from_below else tree)
        sha256, l0 = sha256 or labelled.level_sha256, labelled.thresholds[0] if l0 is None else l0
        if labelled.level_sha256 != sha256:
            raise InputError(f"{path}: was made with other networks than {results[0]}; tune the results of one model")
        if labelled.thresholds[0] != l0:
            raise InputError(
                f"{path}: has threshold {labelled.thresholds[0]:g} at level 0, {results[0]} has {l0:g}; run the slides "
                "with one threshold at level 0, which says what is positive"
            )
        if labelled.quickhash in seen:
            raise InputError(f"{path}: slide {labelled.slide} is there twice, in {seen[labelled.quickhash]} too")
        seen[labelled.quickhash] = path
        slides.append(SlideId(labelled.slide, labelled.quickhash))
        notes += [f"{labelled.slide}: {note}" for note in labelled.notes]
        name = labelled.model_name
    assert sha256 is not None
    assert l0 is not None
    return LabelledSlides(Cohort(tuple(trees), l0), tuple(slides), name, sha256, min_share, from_below, tuple(notes))
