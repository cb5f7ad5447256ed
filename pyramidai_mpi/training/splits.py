"""Which slides train, validate and test: by patient, by folds of patients, or with one centre left out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.patches.folds import deal_folds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Slide = TypeVar("Slide")


class Split(StrEnum):
    """What a slide is used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


SlidesOfSplits = dict[Split, list["Path"]]


@dataclass(frozen=True)
class Case:
    """A slide, or a file of patches, and what decides where it goes.

    Attributes
    ----------
    path
        The file.
    owner
        Whose it is, in words: what has the same owner goes into one split.
    centre
        Where it is from; None where nobody has said.
    has_tumor
        Whether anything in it is positive.
    """

    path: Path
    owner: str
    centre: str | None
    has_tumor: bool


def split_slides(
    slides: Sequence[Slide],
    has_tumor: Sequence[bool],
    seed: int,
    shares: tuple[float, float] = (0.6, 0.2),
    *,
    what: str = "slides with tumour",
    advice: str = "give more",
) -> dict[Split, list[Slide]]:
    """Deal slides, or whatever goes into one split, to training, validation and test, with and without tumour apart.

    Parameters
    ----------
    slides, has_tumor
        The slides, and whether each holds tumour.
    seed
        Seed of the shuffling.
    shares
        Shares of the slides that train and that validate; the rest tests.
    what
        What those with tumour are called in the error.
    advice
        What to do about too few, for the error.

    Raises
    ------
    UsageError
        With fewer than three slides with tumour: each split needs one.
    """
    if sum(has_tumor) < 3:
        raise UsageError(f"{sum(has_tumor)} {what}: training, validation and test need one each; {advice}")
    split: dict[Split, list[Slide]] = {kind: [] for kind in Split}
    rng = np.random.default_rng(seed)
    for wanted in (True, False):
        group = [slide for slide, tumor in zip(slides, has_tumor, strict=True) if tumor == wanted]
        group = [group[i] for i in rng.permutation(len(group))]
        validation = max(round(shares[1] * len(group)), min(1, len(group) // 3))
        test = max(round((1 - sum(shares)) * len(group)), min(1, len(group) // 3))
        split[Split.VALIDATION] += group[:validation]
        split[Split.TEST] += group[validation : validation + test]
        split[Split.TRAIN] += group[validation + test :]
    return split


def split_by_owner(
    cases: Sequence[Case], seed: int, *, what: str = "patients or slides with tumour", advice: str = "give more"
) -> SlidesOfSplits:
    """As `split_slides`, of owners.

    Raises
    ------
    UsageError
        With fewer than three owners of slides with tumour.
    """
    owners = _by_owner(cases)
    has_tumor = [any(case.has_tumor for case in of_one) for of_one in owners.values()]
    dealt = split_slides(list(owners.values()), has_tumor, seed, what=what, advice=advice)
    return {kind: [case.path for of_one in parts for case in of_one] for kind, parts in dealt.items()}


def folds_of(cases: Sequence[Case], n_folds: int, seed: int) -> dict[str, SlidesOfSplits]:
    """Splits of a cross-validation, by name: fold n tests, the next one validates, the others train.

    Owners are dealt so that folds have about as many slides with and without tumour: see `deal_folds`.

    Raises
    ------
    UsageError
        With fewer than three folds, or owners of slides with tumour.
    """
    if n_folds < 3:
        raise UsageError(f"--folds {n_folds}: expected 3 or more, as one tests, one validates and the others train")
    n_of: dict[str, list[int]] = {}
    for case in cases:
        kinds = n_of.setdefault(case.owner, [0, 0])
        kinds[case.has_tumor] += 1
    with_tumor = sum(kinds[1] > 0 for kinds in n_of.values())
    if with_tumor < n_folds:
        raise UsageError(f"--folds {n_folds}: slides with tumour are of {with_tumor} patients; use fewer folds")
    # those with tumour are dealt by themselves, so that no fold is without
    fold_of = {
        owner: fold
        for wanted in (True, False)
        for owner, fold in _dealt({o: k for o, k in n_of.items() if (k[1] > 0) == wanted}, n_folds, seed).items()
    }
    splits = {}
    for fold in range(n_folds):
        kinds_of = {fold: Split.TEST, (fold + 1) % n_folds: Split.VALIDATION}
        split: SlidesOfSplits = {kind: [] for kind in Split}
        for case in cases:
            split[kinds_of.get(fold_of[case.owner], Split.TRAIN)].append(case.path)
        splits[f"fold-{fold}"] = split
    return splits


def _dealt(n_of: Mapping[str, Sequence[int]], n_folds: int, seed: int) -> dict[str, int]:
    """See `deal_folds`; fewer owners than folds go one into each."""
    return deal_folds(n_of, min(n_folds, len(n_of)), seed) if len(n_of) > 1 else dict.fromkeys(n_of, 0)


def centres_of(cases: Sequence[Case], seed: int) -> dict[str, SlidesOfSplits]:
    """Splits that leave one centre out each, by name: that one tests, and of the others' patients a fifth validates.

    Raises
    ------
    UsageError
        When a slide's centre is not known, there are fewer than two, or one's tumour is all that there is.
    """
    unknown = [case.path.name for case in cases if case.centre is None]
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise UsageError(
            f"--leave-centre-out: nobody has said of which centre {', '.join(unknown[:5])}{more} are; give --origin "
            "TABLE with columns slide and centre"
        )
    centres = sorted({str(case.centre) for case in cases})
    if len(centres) < 2:
        raise UsageError(f"--leave-centre-out: all slides are of centre {centres[0]}; expected slides of two or more")
    splits = {}
    for centre in centres:
        left_out = [case for case in cases if case.centre == centre]
        owners = list(_by_owner([case for case in cases if case.centre != centre]).values())
        rng = np.random.default_rng(seed)
        split: SlidesOfSplits = {kind: [] for kind in Split}
        split[Split.TEST] = [case.path for case in left_out]
        for wanted in (True, False):
            group = [of_one for of_one in owners if any(case.has_tumor for case in of_one) == wanted]
            if wanted and (len(group) < 2 or not any(case.has_tumor for case in left_out)):
                raise UsageError(
                    f"--leave-centre-out: without centre {centre} slides with tumour are of {len(group)} patients, and "
                    f"{sum(case.has_tumor for case in left_out)} of its own have tumour; expected 2 and 1 at least"
                )
            group = [group[i] for i in rng.permutation(len(group))]
            n_validation = max(round(0.2 * len(group)), min(1, len(group) // 2))
            for number, of_one in enumerate(group):
                kind = Split.VALIDATION if number < n_validation else Split.TRAIN
                split[kind] += [case.path for case in of_one]
        splits[f"centre-{centre}"] = split
    return splits


def _by_owner(cases: Sequence[Case]) -> dict[str, list[Case]]:
    owners: dict[str, list[Case]] = {}
    for case in cases:
        owners.setdefault(case.owner, []).append(case)
    return owners
