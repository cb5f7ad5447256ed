"""Tables of slides as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.classification.slide_labels import read_labels

CAMELYON = Path(__file__).resolve().parents[3] / "shared" / "data" / "camelyon16"


def table(path: Path, text: str):
    path.write_text(text, encoding="utf-8")
    return read_labels(path)


@pytest.mark.parametrize("word", ["tumor", "Tumour", " TRUE ", "1", "yes", "positive"])
def test_words_for_tumour(tmp_path, word):
    assert table(tmp_path / "l.csv", f"a.tif,{word}\nb.tif,normal\n").is_tumor("a.tif") is True


@pytest.mark.parametrize("word", ["normal", "False", "0", "no", "negative"])
def test_words_for_normal(tmp_path, word):
    assert table(tmp_path / "l.csv", f"slide,label\na,{word},IDC,Macro\n").is_tumor("a.svs") is False


def test_a_dot_in_a_slides_name_is_none_of_its_ending(tmp_path):
    (tmp_path / "labels.csv").write_text("A.1,tumor\nA.2,normal\nA,normal\n")
    labels = read_labels(tmp_path / "labels.csv")
    assert [labels.is_tumor(f"{name}.tif") for name in ("A.1", "a.2", "A")] == [True, False, False]
    with pytest.raises(InputError, match=r"does not name slide 'A\.3\.tif'"):
        labels.is_tumor("A.3.tif")


def test_names_are_compared_without_case_and_endings(tmp_path):
    labels = table(tmp_path / "l.csv", "Normal_001.tif.npy,False\ntumor_002,True\nTCGA-1.ab.svs,yes\n")
    assert labels.is_tumor("normal_001.tif") is False
    assert labels.is_tumor("Tumor_002.TIF") is True
    assert labels.is_tumor("TCGA-1.ab.svs") is True


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "names no slide"),
        ("slide,label\n", "names no slide"),
        ("slide,label\na.tif,maybe\n", "line 2"),
        ("a.tif,1\n\nb.tif\n", "line 3"),
        ("b.tif,1\n", "does not name slide 'a.tif'"),
        ("a.tif,1\na.svs,0\n", None),
        ("a,1\na,0\n", "both tumour and normal"),
    ],
)
def test_a_table_that_does_not_say_is_refused(tmp_path, text, part):
    if part is None:  # another ending, another slide: the exact name decides
        assert table(tmp_path / "l.csv", text).is_tumor("a.tif") is True
        return
    with pytest.raises(InputError, match=part) as caught:
        table(tmp_path / "l.csv", text).is_tumor("a.tif")
    assert "l.csv" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["slide;label\r\na.tif;tumor\r\nb.tif;normal\r\n", "a.tif\ttumor\nb.tif\tnormal", "a.tif;tumor;a, b\nb.tif;0;;;\n",
     "slide,label,note; more\na.tif,1,x\nb.tif , no , y; z\n", "sep=;\nslide;label\na.tif;yes\nb.tif;no\n"],
    ids=["semicolons", "tabs", "commas in what is left alone", "semicolons in what is left alone", "told"],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_of_any_spreadsheet_say_the_same(tmp_path, text, encoding):
    (tmp_path / "l.csv").write_bytes(text.encode(encoding))
    labels = read_labels(tmp_path / "l.csv")
    assert (labels.is_tumor("a.tif"), labels.is_tumor("b.tif")) == (True, False)


def test_a_missing_table_is_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"l\.csv"):
        read_labels(tmp_path / "l.csv")


@pytest.mark.real
def test_the_tables_of_camelyon16_are_read():
    if not CAMELYON.is_dir():
        pytest.skip(f"{CAMELYON} is missing")
    labels, reference = read_labels(CAMELYON / "labels.csv"), read_labels(CAMELYON / "reference.csv")
    assert sum(labels.is_tumor(f"tumor_{n:03}.tif") for n in range(1, 111)) == 110
    assert sum(reference.is_tumor(f"test_{n:03}.tif") for n in range(1, 130) if f"test_{n:03}" in reference.tumor) == 49
