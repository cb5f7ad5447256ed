"""Who trains, validates and tests: no patient twice, each fold or centre tested once, tumour everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.training.splits import Case, Split, centres_of, folds_of, split_by_owner


def cases_of(n_patients=18, nodes=3, centres=4) -> list[Case]:
    """Every second patient has tumour, in one node; of each centre some."""
    return [
        Case(
            Path(f"p{patient}n{node}.tif"),
            f"patient {patient}",
            f"c{patient // 2 % centres}",
            patient % 2 == node == 1,
        )
        for patient in range(n_patients)
        for node in range(nodes)
    ]


CASES = cases_of()


def check_split(split, of: list[Case]) -> None:
    """Each slide once, no owner in two parts, tumour in each."""
    by_path = {case.path: case for case in of}
    assert sorted(path for part in split.values() for path in part) == sorted(by_path)
    owners = [{by_path[path].owner for path in part} for part in split.values()]
    assert sum(map(len, owners)) == len(set.union(*owners))
    for kind, part in split.items():
        assert any(by_path[path].has_tumor for path in part), kind


def test_a_split_is_by_patient() -> None:
    check_split(split_by_owner(CASES, 3), CASES)


@pytest.mark.parametrize("n_folds", [3, 5, 8])
def test_each_fold_tests_once_and_folds_are_alike(n_folds) -> None:
    found = folds_of(CASES, n_folds, seed=1)
    assert list(found) == [f"fold-{n}" for n in range(n_folds)]
    tested = [path for split in found.values() for path in split[Split.TEST]]
    assert sorted(tested) == sorted(case.path for case in CASES)
    for number, split in enumerate(found.values()):
        check_split(split, CASES)
        assert split[Split.VALIDATION] == found[f"fold-{(number + 1) % n_folds}"][Split.TEST]
    sizes = [len(split[Split.TEST]) for split in found.values()]
    assert max(sizes) - min(sizes) <= 6  # by one patient with tumour and one without
    assert folds_of(CASES, n_folds, seed=1) == found
    assert folds_of(CASES, n_folds, seed=2) != found


def test_each_centre_tests_once() -> None:
    found = centres_of(CASES, seed=1)
    assert list(found) == [f"centre-c{n}" for n in range(4)]
    for name, split in found.items():
        check_split(split, CASES)
        assert sorted(split[Split.TEST]) == sorted(case.path for case in CASES if case.centre == name[7:])


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        (cases_of(centres=1), "all slides are of centre c0; expected slides of two or more"),
        (cases_of(n_patients=4, centres=2), "without centre c0 slides with tumour are of 1 patients"),
        ([*CASES, Case(Path("x.tif"), "x", None, has_tumor=False)], "of which centre x.tif are; give --origin"),
    ],
)
def test_centres_that_cannot_be_left_out_are_named(cases, said) -> None:
    with pytest.raises(UsageError, match=said):
        centres_of(cases, 0)


def test_too_many_folds_are_refused() -> None:
    with pytest.raises(UsageError, match="slides with tumour are of 9 patients; use fewer folds"):
        folds_of(CASES, 10, 0)
    with pytest.raises(UsageError, match="expected 3 or more"):
        folds_of(CASES, 2, 0)
