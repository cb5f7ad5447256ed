"""The aggregator of a package: read as written, kept by packages made of it, refused in one line where it is wrong."""

from __future__ import annotations

import hashlib

import pytest
import yaml

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.aggregator_entry import AggregatorMethod, SlideTask, aggregator_entry
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.quantisation.package import LevelReport, QuantisationReport, QuantisedPackage, write_quantised
from pyramidai_mpi.models.write import PackageText, write_package
from pyramidai_mpi.tuning.tuned_package import TuningRecord, write_tuned

ENTRY = aggregator_entry(AggregatorMethod.ABMIL, SlideTask.BINARY, ["normal", "tumor"])


@pytest.fixture
def folder(tmp_path):
    write_package(tmp_path / "m", PackageText("m").document(1) | {"aggregator": ENTRY}, [b"tiles"], b"slides")
    return tmp_path / "m"


def test_it_is_read_as_written_and_kept_by_packages_made_of_it(folder) -> None:
    package = load_package(folder)
    tuned, quantised = folder.with_name("tuned"), folder.with_name("int8")
    write_tuned(package, tuned, [0.25], TuningRecord("o", 0.9, 0.5, False, 0.9, 2.0, [], "now", "0"), overwrite=False)
    report = LevelReport(0, "onnxruntime", 1, 1.0, 1.0, 0.0, 0.0, 0, 1, 1)
    write_quantised(package, QuantisedPackage((b"1",), QuantisationReport((report,))), quantised)
    for one in (folder, tuned, quantised):
        found = load_package(one).aggregator
        assert found is not None
        assert (found.onnx_path, found.onnx_path.read_bytes()) == (one / "aggregator.onnx", b"slides")
        assert found.sha256 == hashlib.sha256(b"slides").hexdigest()
        assert (found.method, found.task, found.classes) == ("abmil", "binary", ("normal", "tumor"))


def test_a_package_of_tiles_has_none(tmp_path) -> None:
    write_package(tmp_path / "m", PackageText("m").document(1), [b"tiles"])
    assert load_package(tmp_path / "m").aggregator is None
    assert "aggregator" not in (tmp_path / "m/model.yaml").read_text()
    with pytest.raises(ValueError, match="both"):
        write_package(tmp_path / "n", PackageText("m").document(1), [b"tiles"], b"slides")


def test_another_file_than_was_described_is_named(folder) -> None:
    (folder / "aggregator.onnx").write_bytes(b"others")
    with pytest.raises(InputError, match=r"aggregator\.onnx: its SHA-256"):
        load_package(folder)
    assert load_package(folder, check_files=False).aggregator is not None
    (folder / "aggregator.onnx").unlink()
    with pytest.raises(InputError, match=r"aggregator\.onnx: missing"):
        load_package(folder, check_files=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "max"}, "method is 'max', expected one of abmil, mean, transformer"),
        ({"task": ["binary"]}, "task is .*, expected one of binary, classes, share, survival"),
        ({"classes": ["tumor"]}, "not as many as task binary"),
        ({"classes": ["tumor", "tumor"]}, "none twice"),
        ({"classes": "tumor"}, "list of names"),
        ({"task": "share"}, "not as many as task share"),
        ({"onnx": "../level0.onnx"}, "a file of the model's folder"),
        ({"onnx": 3}, "expected text"),
        ({"layers": 2}, "expected a mapping of onnx"),
    ],
)
def test_what_it_cannot_be_is_refused_in_one_line(folder, changes, said) -> None:
    path = folder / "model.yaml"
    document = yaml.safe_load(path.read_text())
    document["aggregator"] |= changes
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match=rf"model\.yaml: aggregator.*{said}") as caught:
        load_package(folder)
    assert "\n" not in str(caught.value)
