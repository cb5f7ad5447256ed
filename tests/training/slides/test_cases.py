"""The table of labels: what it says is what is learnt, and what it cannot mean is refused in one line."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.models.aggregator_entry import SlideTask
from pyramidai_mpi.training.slides.cases import read_cases, split_cases
from pyramidai_mpi.training.splits import Split


def table(tmp_path, text: str):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


def test_slides_are_found_by_name_and_patients_are_one_case(tmp_path) -> None:
    path = table(tmp_path, "slide;label;patient\nB.svs;tumor;p2\na;normal;p1\nc.tif;tumor;p2\nother;tumor;p9\n")
    found = read_cases(path, SlideTask.BINARY, ["a.tif", "b.tif", "c.tif"])
    assert found.classes == ("normal", "tumor")
    assert [(case.name, case.slides, case.target) for case in found.cases] == [
        ("p2", (1, 2), (1.0,)),
        ("p1", (0,), (0.0,)),
    ]


def test_a_dot_in_a_slides_name_is_none_of_its_ending(tmp_path) -> None:
    rows = ["A.1,tumor,train", "A.2.svs,normal,test", "A,normal,validation", "1.2.840.3,tumor,train"]
    path = table(tmp_path, "\n".join(["slide,label,split", *rows]))
    slides = ["A.tif", "A.2.tif", "a.1.tif", "1.2.840.3"]  # the last is a folder of DICOM files
    found = {case.slides: (case.target, case.split) for case in read_cases(path, SlideTask.BINARY, slides).cases}
    assert found == {
        (2,): ((1.0,), "train"), (1,): ((0.0,), "test"), (0,): ((0.0,), "validation"), (3,): ((1.0,), "train"),
    }  # fmt: skip
    for slide in ("A.3.tif", "1.2.840.4"):
        with pytest.raises(InputError, match=f"has no row for slide {slide}"):
            read_cases(path, SlideTask.BINARY, [slide, "A.tif"])
    splits = tmp_path / "splits.csv"
    splits.write_text("slide,split\nA.1,test\nA.2,train\nA,train\n1.2.840.3,validation\n")
    told = read_cases(path, SlideTask.BINARY, slides, splits=splits)
    assert {case.slides[0]: case.split for case in told.cases} == {2: "test", 1: "train", 0: "train", 3: "validation"}


@pytest.mark.parametrize(
    ("task", "text", "targets"),
    [
        (SlideTask.CLASSES, "slide,label\na,z\nb,x\nc,y\n", [(2.0,), (0.0,), (1.0,)]),
        (SlideTask.SHARE, "slide;share\na;0,25\nb;1\nc;0\n", [(0.25,), (1.0,), (0.0,)]),
        (SlideTask.SURVIVAL, "slide,time,event\na,3.5,yes\nb,0,0\nc,2,1\n", [(3.5, 1.0), (0.0, 0.0), (2.0, 1.0)]),
        (SlideTask.BINARY, "wsi,label\na,1\nb,0\nc,1\n", [(1.0,), (0.0,), (1.0,)]),
    ],
)
def test_each_task_reads_its_own_columns(tmp_path, task, text, targets) -> None:
    assert [case.target for case in read_cases(table(tmp_path, text), task, ["a", "b", "c"]).cases] == targets


def test_the_positive_class_may_be_named(tmp_path) -> None:
    path = table(tmp_path, "slide,label\na,lusc\nb,luad\n")
    assert read_cases(path, SlideTask.BINARY, ["a", "b"]).classes == ("luad", "lusc")
    assert read_cases(path, SlideTask.BINARY, ["a", "b"], "luad").classes == ("lusc", "luad")
    with pytest.raises(UsageError, match=r"--positive blue: .*luad, lusc"):
        read_cases(path, SlideTask.BINARY, ["a", "b"], "blue")


@pytest.mark.parametrize(
    ("task", "text", "said"),
    [
        ("binary", "slide,share\na,1\n", "no column label"),
        ("binary", "name,label\na,1\n", "no column slide"),
        ("binary", "slide,label\na,1\n", r"no row for slide b.tif \(1 in all\)"),
        ("binary", "slide,label\na,1\nb,0\nA,1\n", "line 4: slide A has a row already"),
        ("binary", "slide,label,patient\na,1,p\nb,0,p\n", "line 3: patient p has another label"),
        ("binary", "slide,label\na,1\nb,1\n", "task binary needs two"),
        ("binary", "slide,label\na,1\nb,\n", "line 3: has no label"),
        ("binary", "slide,label,split\na,1,train\nb,0,learn\n", "line 3: split is 'learn'"),
        ("share", "slide,share\na,0.5\nb,50\n", "line 3: share is '50'"),
        ("survival", "slide,time,event\na,2,1\nb,-2,1\n", "line 3: time is '-2'"),
        ("survival", "slide,time,event\na,2,1\nb,2,2\n", "event '2'"),
    ],
)
def test_what_the_table_cannot_mean_is_refused(tmp_path, task, text, said) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_cases(table(tmp_path, text), SlideTask(task), ["a.tif", "b.tif"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", list(SlideTask))
def test_a_split_is_by_case_and_each_part_has_its_share_of_each_kind(tmp_path, task) -> None:
    n = 40
    rows = [f"s{k},{k % 2},{k / n},{k + 1},{k % 2}" for k in range(n)]
    path = table(tmp_path, "\n".join(["slide,label,share,time,event", *rows]))
    cases = read_cases(path, task, [f"s{k}" for k in range(n)]).cases
    split = split_cases(cases, task, seed=3)
    assert sorted(case.name for part in split.values() for case in part) == sorted(case.name for case in cases)
    assert {kind: len(part) for kind, part in split.items()} == {Split.TRAIN: 24, Split.VALIDATION: 8, Split.TEST: 8}
    kinds = [
        {int(case.target[0] * 4) if task is SlideTask.SHARE else case.target[-1] % 2 for case in part}
        for part in split.values()
    ]
    assert all(len(kind) == (4 if task is SlideTask.SHARE else 2) for kind in kinds)
    assert split != split_cases(cases, task, seed=4)


def test_a_split_of_the_table_is_kept_and_has_to_be_whole(tmp_path) -> None:
    text = "slide,label,split\na,1,train\nb,0,train\nc,1,test\nd,0,test\ne,1,validation\nf,0,"
    names = list("abcdef")
    cases = read_cases(table(tmp_path, text + "validation"), SlideTask.BINARY, names).cases
    split = split_cases(cases, SlideTask.BINARY, 0)
    assert [case.name for case in split[Split.TEST]] == ["c", "d"]
    with pytest.raises(InputError, match="f: has no split"):
        split_cases(read_cases(table(tmp_path, text), SlideTask.BINARY, names).cases, SlideTask.BINARY, 0)
    with pytest.raises(InputError, match="all slides for validation have one label"):
        split_cases(cases[:5], SlideTask.BINARY, 0)
