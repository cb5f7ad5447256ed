"""The file of a classifier: comes back the same, and can do no harm."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier

from pyramidai_mpi.base.errors import InputError, OutputExistsError
from pyramidai_mpi.classification import storage
from pyramidai_mpi.classification.classifier import SlideClassifier
from pyramidai_mpi.classification.features import FeatureKind
from pyramidai_mpi.classification.forest import Forest, grow_forest
from pyramidai_mpi.classification.storage import FORMAT, load_classifier, save_classifier


@pytest.fixture(scope="module")
def classifier() -> SlideClassifier:
    rng = np.random.default_rng(0)
    features = rng.random((20, 20))
    forest = grow_forest(features, features[:, 19] > 0.5, FeatureKind.HISTOGRAM, seed=0, n_trees=5)
    return SlideClassifier(FeatureKind.HISTOGRAM, 20, forest, ("01", "23"), ("exhaustive",), 11, 9)


@pytest.fixture
def saved(classifier, tmp_path) -> Path:
    save_classifier(classifier, tmp_path / "model.skops")
    return tmp_path / "model.skops"


def content(path: Path) -> dict:
    return skops.io.load(path)


def assert_refused(path: Path, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        load_classifier(path)
    line = str(caught.value)
    assert "\n" not in line
    assert [part for part in (path.name, *parts) if part not in line] == []


def test_a_classifier_comes_back_as_it_was(classifier, saved):
    loaded = load_classifier(saved)
    for one in fields(SlideClassifier):
        if one.name != "forest":
            assert getattr(loaded, one.name) == getattr(classifier, one.name)
    for one in fields(Forest):
        np.testing.assert_array_equal(getattr(loaded.forest, one.name), getattr(classifier.forest, one.name))


def test_the_file_needs_no_type_to_be_trusted(saved):
    assert skops.io.get_untrusted_types(file=saved) == []


def test_an_existing_file_is_kept(classifier, saved):
    before = saved.read_bytes()
    with pytest.raises(OutputExistsError):
        save_classifier(classifier, saved)
    assert saved.read_bytes() == before
    assert [one.name for one in saved.parent.iterdir()] == [saved.name]


def test_a_file_cut_anywhere_is_refused(saved):
    whole = saved.read_bytes()
    for length in (0, 1, 30, len(whole) // 3, len(whole) - 1):
        saved.write_bytes(whole[:length])
        assert_refused(saved, "classify fit")


def test_flipped_bytes_are_refused_or_harmless(classifier, saved):
    whole = saved.read_bytes()
    rng = np.random.default_rng(9)
    refused = 0
    for place in rng.integers(len(whole), size=150):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(bytes(damaged))
        try:
            loaded = load_classifier(saved)
        except InputError:
            refused += 1
        else:  # a byte that no reader looks at: the archive's checksums guard the rest
            np.testing.assert_array_equal(loaded.forest.threshold, classifier.forest.threshold)
    assert refused > 100


class Malice:
    """What a pickle can do."""

    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_a_pickle_is_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.skops"
    path.write_bytes(pickle.dumps(Malice()))
    assert_refused(path)
    assert not (tmp_path / "touched").exists()


def test_a_pickle_inside_an_array_is_refused_unopened(saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    changed = io.BytesIO()
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            data = io.BytesIO()
            np.save(data, np.array([Malice()], object), allow_pickle=True)
            new.writestr(name, data.getvalue() if name.endswith(".npy") else old.read(name))
    saved.write_bytes(changed.getvalue())
    assert_refused(saved)
    assert not (saved.parent / "touched").exists()


def test_objects_that_skops_would_build_are_refused(tmp_path):
    for thing in (
        RandomForestClassifier(2).fit([[0.0], [1.0]], [0, 1]),
        {"format": FORMAT, "x": RandomForestClassifier()},
        {"format": FORMAT, "x": np.random.RandomState(0)},
        {"format": FORMAT, "x": np.sum},
        {"format": FORMAT, "x": slice(3)},
    ):
        skops.io.dump(thing, tmp_path / "model.skops")
        assert_refused(tmp_path / "model.skops", "which no classifier of this program does")


def test_a_schema_that_names_code_is_refused(saved):
    changed = io.BytesIO()
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "schema.json":
                schema = json.loads(data)
                schema["content"]["format"] = {
                    "__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "__id__": 1,
                    "content": {"module_path": "os", "function": "system"},
                }  # fmt: skip
                data = json.dumps(schema).encode()
            new.writestr(name, data)
    saved.write_bytes(changed.getvalue())
    assert_refused(saved, "os.system")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"format": "other/1"}, FORMAT),
        ({"features": "colours"}, "colours"),
        ({"bins": 0}, "0 bins"),
        ({"bins": 3}, "hang together"),
        ({"left": np.zeros(4, "<i4")}, "hang together"),
        ({"left": np.zeros((2, 2), "<i4")}, "left"),
        ({"share": np.zeros(4, "<i4")}, "share"),
        ({"share": [0.5]}, "share"),
        ({"level_sha256": None}, "classify fit"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_content_is_refused(saved, change, part):
    skops.io.dump(content(saved) | change, saved)
    assert_refused(saved, part)


def test_a_missing_entry_is_refused(saved):
    without = content(saved)
    del without["threshold"]
    skops.io.dump(without, saved)
    assert_refused(saved, "threshold")


def test_a_file_that_unpacks_to_too_much_is_refused(saved, monkeypatch):
    monkeypatch.setattr(storage, "_MOST_BYTES", 1 << 20)
    load_classifier(saved)
    with zipfile.ZipFile(saved, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("filler", bytes(1 << 20))
    assert saved.stat().st_size < 1 << 19
    assert_refused(saved, "unpacks")


def test_a_deep_schema_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", "[" * 200_000)
    assert_refused(path)


def test_what_is_no_file_is_refused(tmp_path):
    assert_refused(tmp_path / "missing.skops")
    (tmp_path / "folder").mkdir()
    assert_refused(tmp_path / "folder")
