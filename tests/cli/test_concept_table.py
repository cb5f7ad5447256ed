"""Tables of concepts that people bring, and the choice of patches."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.cli.concept_order import split_names
from pyramidai_mpi.cli.concept_patches import Looker, _drawn
from pyramidai_mpi.cli.concept_table import read_concepts
from pyramidai_mpi.cli.concepts_run import values_of
from pyramidai_mpi.models.stain.map import StainError


def written(tmp_path, text):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    return path


def test_values_find_their_patches_by_file_and_number(tmp_path):
    text = "File;Patch;atypia;slide;my area\na.patches.h5;0;1,5;x;3\na.patches.h5;2;;x;4\nb.patches.h5;0;2;y;\n"
    table = read_concepts(written(tmp_path, text))
    assert table.names == ("atypia", "my area")
    found = table.of(["a.patches.h5", "a.patches.h5", "b.patches.h5", "b.patches.h5"], [0, 2, 0, 7])
    np.testing.assert_array_equal(found, [[1.5, 3], [math.nan, 4], [2, math.nan], [math.nan, math.nan]])


def test_one_file_needs_no_name_and_several_do(tmp_path):
    table = read_concepts(written(tmp_path, "patch,grade\n0,1\n1,2\n"))
    np.testing.assert_array_equal(table.of(["a.h5", "a.h5"], [1, 0]), [[2], [1]])
    with pytest.raises(InputError, match="has no column file, and there are 2 files"):
        table.of(["a.h5", "b.h5"], [0, 1])
    with pytest.raises(InputError, match="says nothing of any of these patches"):
        table.of(["a.h5"], [5])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("number,grade\n0,1\n", "expected a column patch"),
        ("", "expected a column patch"),
        ("patch,file\n0,a\n", "has no column of a concept"),
        ("patch,grade,Grade\n0,1,2\n", "names a column twice"),
        ("patch,grade\n-1,1\n", r"line 2: expected the number of a patch, found '-1'"),
        ("patch,grade\n1,high\n", r"line 2: .*'high'"),
        ("patch,grade\n1,inf\n", r"line 2: inf is not finite"),
        ("patch,grade\n1,-1e308\n", r"line 2: -1e308 is too great"),
        ("patch,grade\n1,2\n1,3\n", r"line 3: has patch 1 a second time"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        read_concepts(written(tmp_path, text))


def test_names_and_files_are_told_apart():
    assert split_names("area, mine/x.CSV,count") == (["area", "count"], ["mine/x.CSV"])
    for words in ("area,,count", "size", ""):
        with pytest.raises(UsageError, match="expected some of"):
            split_names(words)
    with pytest.raises(UsageError, match="'count': is there twice"):
        split_names("count,area,count")


def test_as_many_patches_of_each_patient_are_drawn_as_there_are():
    patient = np.repeat(np.arange(3), [100, 5, 40])
    found = _drawn(patient, 45, seed=1)
    assert np.bincount(patient[found]).tolist() == [20, 5, 20]
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(found, _drawn(patient, 45, seed=1))
    assert set(found) != set(_drawn(patient, 45, seed=2))
    np.testing.assert_array_equal(_drawn(patient, 145, seed=1), np.arange(145))


def test_a_patch_that_the_network_has_not_seen_has_no_value_that_was_brought_either():
    """Its activations are none: regressions would take them for zeros."""

    def no_stain(_pixels):
        raise StainError("its stain cannot be estimated")

    looker = object.__new__(Looker)
    looker.dtype = np.dtype([("values", "<f8", (2,)), ("probability", "<f4"), ("activations", "<f4", (3,))])
    looker._sample = SimpleNamespace(file=np.array([0]), number=np.array([4]))
    looker._files = [SimpleNamespace(patch=lambda _number: np.zeros((8, 8, 3), np.uint8))]
    looker._stain_of = lambda _file: no_stain
    seen = np.ones(1, looker.dtype)
    found = values_of(np.concatenate([seen, looker._look_at(0)]), np.array([[5.0], [6.0]]))
    np.testing.assert_array_equal(found, [[1, 1, 5], [math.nan] * 3])
