"""Model packages as they are written: what is in them, and that none is ever seen half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

import pytest
import yaml

from pyramidai_mpi.base.errors import InputError, OutputExistsError, StorageError
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.quantisation.package import LevelReport, QuantisationReport, QuantisedPackage, write_quantised
from pyramidai_mpi.models.stain.map import ReinhardTarget
from pyramidai_mpi.models.write import PackageText, document_of, write_package
from pyramidai_mpi.tuning.tuned_package import TuningRecord, write_tuned

GRAPHS = [b"fine", b"coarse"]
ROOT = Path(__file__).parents[2]


def entry(level: int, graph: bytes, threshold: float = 0.5) -> dict:
    digest = hashlib.sha256(graph).hexdigest()
    return {"level": level, "onnx": f"level{level}.onnx", "threshold": threshold, "sha256": digest}


def plain(**changes: object) -> dict:
    """What model.yaml says of `GRAPHS`, in its order."""
    document = {
        "format": "pyramidai-model/1",
        "name": "plain",
        "classes": ["normal", "tumor"],
        "positive_class": "tumor",
        "tile_size": 224,
        "scale_factor": 2,
        "base_mpp": 0.25,
        "stain": {"method": "none"},
        "input": {"layout": "NHWC", "dtype": "uint8"},
        "inputs": [],
        "decision": {"type": "threshold"},
        "levels": [entry(n, graph) for n, graph in enumerate(GRAPHS)],
    }
    return document | changes


def written(folder: Path) -> dict:
    return yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def package(tmp_path):
    write_package(tmp_path / "m", PackageText("plain").document(2), GRAPHS)
    return load_package(tmp_path / "m")


def test_a_new_package_says_what_it_always_said(package) -> None:
    assert list(written(package.folder).items()) == list(plain().items())
    assert [level.onnx_path.read_bytes() for level in package.levels] == GRAPHS


def test_all_that_a_new_package_may_say_is_read_back(tmp_path) -> None:
    target = ReinhardTarget((8.5, -0.25, 0.0), (0.5, 0.125, 0.25))
    text = PackageText(
        "full",
        description="µm of é",
        classes=("a", "b", "c"),
        positive_class="b",
        tile_size=64,
        base_mpp=0.5,
        threshold=0.25,
        random_weights=True,
        stain_target=target,
    )
    write_package(tmp_path / "m", text.document(1), GRAPHS[:1])
    package = load_package(tmp_path / "m")
    assert (package.name, package.classes, package.positive_class) == ("full", text.classes, 1)
    assert (package.tile_size, package.base_mpp, package.levels[0].threshold) == (64, 0.5, 0.25)
    assert (package.random_weights, package.intended_use, package.stain_target) == (True, "benchmark", target)
    assert written(package.folder)["description"] == "µm of é"


def test_whose_stain_it_is_is_read_back_and_kept_by_packages_made_of_it(package) -> None:
    target = ReinhardTarget((8.5, -0.25, 0.0), (0.5, 0.125, 0.25))
    entries = [PackageText("m", stain_target=target, stain_per=per).document(1)["stain"] for per in ("slide", "tile")]
    assert entries[1] == entries[0] | {"per": "tile"}
    assert "per" not in entries[0]  # as before there was a choice
    write_package(package.folder, plain(stain=entries[1]), GRAPHS, overwrite=True)
    stated = load_package(package.folder)
    tuned, quantised = (package.folder.with_name(name) for name in ("tuned", "int8"))
    write_tuned(stated, tuned, [0.5, 0.125], RECORD, overwrite=False)
    report = LevelReport(0, "onnxruntime", 1, 1.0, 1.0, 0.0, 0.0, 0, 1, 1)
    write_quantised(stated, QuantisedPackage((b"1", b"2"), QuantisationReport((report,))), quantised)
    for folder in (package.folder, tuned, quantised):
        found = load_package(folder)
        assert (found.stain, found.stain_target, found.stain_per) == ("reinhard", target, "tile")


@pytest.mark.parametrize("use", ["demonstration", "benchmark", "research", "clinical"])
def test_what_a_model_is_for_is_read_and_kept_by_packages_made_of_it(package, use) -> None:
    assert package.intended_use is None
    write_package(package.folder, plain(intended_use=use), GRAPHS, overwrite=True)
    stated = load_package(package.folder)
    tuned, quantised = (package.folder.with_name(name) for name in ("tuned", "int8"))
    write_tuned(stated, tuned, [0.5, 0.125], RECORD, overwrite=False)
    report = LevelReport(0, "onnxruntime", 1, 1.0, 1.0, 0.0, 0.0, 0, 1, 1)
    write_quantised(stated, QuantisedPackage((b"1", b"2"), QuantisationReport((report,))), quantised)
    assert [load_package(folder).intended_use for folder in (package.folder, tuned, quantised)] == [use] * 3


@pytest.mark.parametrize("use", ["research", "diagnosis", "Demonstration", ["research"], 3, ""])
def test_a_use_that_cannot_be_is_refused_in_one_line(package, use) -> None:
    changes = {"intended_use": use} | ({"weights": "random"} if use == "research" else {})
    write_package(package.folder, plain(**changes), GRAPHS, overwrite=True)
    with pytest.raises(InputError, match=r"model\.yaml: intended_use is .*, .*expected (one of demo.*|benchmark)"):
        load_package(package.folder)


RECORD = TuningRecord("optimal", 0.9, 0.5, False, 0.95, 2.0, [], "now", "0.1")
TUNING = {
    "strategy": "optimal",
    "objective": 0.9,
    "positive_from_tumor_share": 0.5,
    "positive_where_any_descendant_is": False,
    "training_retention": 0.95,
    "training_speedup": 2.0,
    "software_version": "0.1",
    "created": "now",
}


@pytest.mark.parametrize("name", ["m", "other"])
def test_a_tuned_package_differs_by_its_thresholds_and_how_they_came_about(package, name) -> None:
    folder = package.folder.with_name(name)
    write_tuned(package, folder, [0.5, 0.125], RECORD, overwrite=name == "m")
    levels = [entry(0, GRAPHS[0]), entry(1, GRAPHS[1], 0.125)]
    assert list(written(folder).items()) == list(plain(levels=levels, tuning=TUNING).items())
    assert [(folder / f"level{n}.onnx").read_bytes() for n in (0, 1)] == GRAPHS


def test_a_quantised_package_differs_by_its_networks_and_what_they_changed(package) -> None:
    numbers = {"float_tiles_per_s": 1.0, "int8_tiles_per_s": 2.0, "mean_difference": 0.0, "float_positives": 1}
    reports = tuple(
        LevelReport(n, "onnxruntime", tiles=4, max_difference=0.25, changed=n, kept_positives=1, **numbers)
        for n in (0, 1)
    )
    folder = package.folder.with_name("int8")
    write_quantised(package, QuantisedPackage((b"small", b"smaller"), QuantisationReport(reports)), folder)
    expected = plain(name="plain-int8", levels=[entry(0, b"small"), entry(1, b"smaller")])
    expected["quantisation"] = {"tiles": 8, "max_difference": 0.25, "changed": 1}
    assert list(written(folder).items()) == list(expected.items())
    assert load_package(folder).quantisation_difference == 0.25


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_description_that_was_there_and_no_part_of_another(package, monkeypatch) -> None:
    before = {path.name: path.read_bytes() for path in package.folder.iterdir()}
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        write_tuned(package, package.folder, [0.5, 0.125], RECORD, overwrite=True)
    assert {path.name: path.read_bytes() for path in package.folder.iterdir()} == before


def test_a_full_disk_leaves_no_quantised_package(package, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    report = LevelReport(0, "onnxruntime", 1, 1.0, 1.0, 0.0, 0.0, 0, 1, 1)
    with pytest.raises(StorageError, match="No space left"):
        write_quantised(
            package, QuantisedPackage((b"1", b"2"), QuantisationReport((report,))), package.folder.with_name("int8")
        )
    assert [path.name for path in package.folder.parent.iterdir()] == ["m"]


def test_another_network_of_the_same_name_is_never_replaced(package) -> None:
    (package.folder / "level1.onnx").write_bytes(b"another")
    with pytest.raises(OutputExistsError, match=r"level1\.onnx"):
        write_package(package.folder, document_of(package), GRAPHS, overwrite=True)
    assert (package.folder / "level1.onnx").read_bytes() == b"another"


def test_networks_that_changed_since_the_results_were_read_are_not_tuned_in_silence(package) -> None:
    (package.folder / "level1.onnx").write_bytes(b"another")
    with pytest.raises(InputError, match="other networks"):
        write_tuned(package, package.folder.with_name("tuned"), [0.5, 0.125], RECORD, overwrite=False)


def test_nothing_else_writes_a_description() -> None:
    writers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("pyramidai_mpi", "bench")
        for path in (ROOT / folder).rglob("*.py")
        if "bench/faults/fuzz" not in path.as_posix()  # which makes what nobody would write
        and re.search(r'yaml\.(safe_)?dump|(YAML_NAME|"model\.yaml")\)\.(write|open\("[wa])', path.read_text())
    }
    assert writers == {"pyramidai_mpi/models/write.py"}


def test_a_folder_that_has_gone_meanwhile_is_not_made_anew(tmp_path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        write_package(tmp_path / "gone" / "m", PackageText("plain").document(2), GRAPHS)
    assert list(tmp_path.iterdir()) == []
