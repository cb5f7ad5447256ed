"""Folds hold whole patients, equally many patches, and follow from seed and names alone."""

from __future__ import annotations

import hashlib
import random
from fractions import Fraction
from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.patches.folds import deal_folds, read_folds


def sums(n_of, fold_of, n_folds):
    """Patches of each kind in each fold."""
    n_kinds = len(next(iter(n_of.values())))
    return [
        [sum(n_of[name][kind] for name in n_of if fold_of[name] == fold) for kind in range(n_kinds)]
        for fold in range(n_folds)
    ]


def some_patients(n, n_kinds, seed):
    draw = random.Random(seed)
    return {f"p{i}": [draw.choice([0, 3, 40, draw.randrange(1, 5000)]) for _ in range(n_kinds)] for i in range(n)}


def test_equal_patients_give_equal_folds():
    # closed form: of K * m patients with n patches each, every fold gets m
    for n_folds, m in ((2, 1), (3, 4), (5, 20)):
        n_of = {f"patient {i}": [70] for i in range(n_folds * m)}
        assert sums(n_of, deal_folds(n_of, n_folds, 3), n_folds) == [[70 * m]] * n_folds


def test_equal_patients_of_each_label_give_folds_equal_in_each():
    # 10 patients with tumour and 20 without, in 5 folds: 2 and 4 in each, whatever the seed
    for seed in range(20):
        n_of = {f"t{i}": [30, 100] for i in range(10)} | {f"n{i}": [0, 100] for i in range(20)}
        assert sums(n_of, deal_folds(n_of, 5, seed), 5) == [[60, 600]] * 5


@pytest.mark.parametrize("n_folds", [2, 3, 7])
def test_no_two_folds_differ_by_more_than_the_largest_patient_and_none_is_empty(n_folds):
    for seed in range(50):
        n_of = some_patients(7 + seed, 1, seed)
        fold_of = deal_folds(n_of, n_folds, seed)
        assert set(fold_of.values()) == set(range(n_folds))
        held = [n for (n,) in sums(n_of, fold_of, n_folds)]
        assert max(held) - min(held) <= max(n for (n,) in n_of.values())


def dealt_by_the_rule(n_of, n_folds, seed):
    """The rule as its description has it, in fractions."""
    totals = [sum(kind) for kind in zip(*n_of.values(), strict=True)]
    share = {name: [Fraction(n, t) if t else Fraction(0) for n, t in zip(kinds, totals, strict=True)]
             for name, kinds in n_of.items()}  # fmt: skip
    members = [[] for _ in range(n_folds)]

    def size_class(name):  # by powers of two of the greatest share, in units that make all shares whole
        unit = Fraction(1)
        for kinds in share.values():
            for each in kinds:
                if each and (each / unit).denominator != 1:
                    unit /= (each / unit).denominator
        n = int(max(share[name]) / unit)
        return n.bit_length()

    order = sorted(n_of, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    for name in sorted(order, key=size_class, reverse=True):
        burdens = [
            (
                sum(sum(share[other][kind] for other in fold) * share[name][kind] for kind in range(len(totals))),
                sum(sum(n_of[other]) for other in fold),
                len(fold),
            )
            for fold in members
        ]
        members[burdens.index(min(burdens))].append(name)
    return {name: fold for fold, names in enumerate(members) for name in names}


@pytest.mark.parametrize("n_kinds", [1, 3])
def test_the_folds_are_those_of_the_rule(n_kinds):
    for seed in range(6):
        n_of = some_patients(15, n_kinds, seed)
        if n_kinds == 3:
            n_of = {name: [*kinds[:2], 0] for name, kinds in n_of.items()}  # a kind of which there is none
        assert deal_folds(n_of, 4, seed) == dealt_by_the_rule(n_of, 4, seed)


def test_the_folds_follow_from_seed_and_names_and_not_from_the_order_of_files():
    n_of = some_patients(30, 2, 1)
    backwards = dict(reversed(n_of.items()))
    assert deal_folds(n_of, 5, 1) == deal_folds(backwards, 5, 1)
    assert len({tuple(deal_folds(n_of, 5, seed)[name] for name in n_of) for seed in range(10)}) == 10


def test_labels_are_balanced_where_they_are_asked_for():
    # what is rare is spread: 5 patients hold all tumour, and each of 5 folds gets one of them
    n_of = {f"p{i}": [10 if i < 5 else 0, 1000 + 37 * i] for i in range(25)}
    for seed in range(10):
        assert [tumor for tumor, _ in sums(n_of, deal_folds(n_of, 5, seed), 5)] == [10] * 5


def test_patients_without_patches_fill_no_fold_twice_before_all_have_one():
    assert sorted(deal_folds({"a": [9], "b": [0], "c": [0]}, 3).values()) == [0, 1, 2]


@pytest.mark.parametrize(("n", "n_folds", "said"), [(3, 5, "of 3 patients only; use --folds 3 or less"),
                                                   (2, 5, "of 2 patients only; use --folds 2$"),
                                                   (1, 2, "of 1 patient only; folds need at least two"),
                                                   (9, 1, "expected at least 2")])  # fmt: skip
def test_fewer_patients_than_folds_are_refused(n, n_folds, said):
    with pytest.raises(UsageError, match=said):
        deal_folds({str(i): [1] for i in range(n)}, n_folds)


def written(folder, text):
    (folder / "folds.csv").write_text(text, encoding="utf-8")
    return folder / "folds.csv"


def test_a_table_of_anybody_is_read(tmp_path):
    folds = read_folds(written(tmp_path, "Fold;File;note\n0;a.patches.h5;x\n2;b.patches.h5\n"))
    assert (folds.n_folds, folds.fold_of(Path("/any/b.patches.h5"))) == (3, 2)
    files = [Path("b.patches.h5"), Path("a.patches.h5")]
    assert folds.apart(files, 0) == ([files[0]], [files[1]])
    with pytest.raises(InputError, match="has folds 0 to 2, no fold 3"):
        folds.apart(files, 3)
    with pytest.raises(InputError, match=r"does not say in which fold c\.patches\.h5 is"):
        folds.fold_of(Path("c.patches.h5"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "expected columns file and fold"),
        ("", "expected columns file and fold"),
        ("file,fold\n", "names no file"),
        ("file,fold\na,-1\n", "line 2: expected a file and the number of its fold"),
        ("file,fold\na,1\n\n,2\n", "line 4: expected a file and the number of its fold"),
        ("file,fold\na,1\na,1\n", "line 3: names a a second time"),
        ("file,patient,fold\na,7,1\nb,,2\nc,,1\nd,7,0\n", "line 5: patient 7 is in folds 1 and 0"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        read_folds(written(tmp_path, text))
