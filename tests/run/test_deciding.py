"""The table of what decides a result: complete, comparable, and the same from the journal and from the result."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.odd_levels import ODD_LEVELS
from pyramidai_mpi.base.settings import RunSettings, Windows
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.pyramid.tissue import RegionFile, TissueSource, mask_downsample
from pyramidai_mpi.run import deciding
from pyramidai_mpi.run.deciding import (
    attributes_of,
    check_same,
    differences,
    facts_asked,
    facts_at_work,
    facts_before,
    joined_manifest,
    manifest_of,
    run_hash,
    values_in_result,
    values_of,
)
from pyramidai_mpi.run.facts import Difference, Kind
from pyramidai_mpi.run.opening import open_under, rule_of
from pyramidai_mpi.store.journal.manifest import read_manifest
from pyramidai_mpi.store.results.reader import read_origin
from pyramidai_mpi.store.results.result import Execution
from tests.packages import write_package
from tests.results import result_of, write_file
from tests.tiffs import write_slide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.run.facts import Facts

MACENKO = {"stain": {"method": "macenko"}}
TARGET = {"hematoxylin": [0.6, 0.7, 0.4], "eosin": [0.2, 0.8, 0.5], "strengths": [2.0, 1.0]}
VERSIONS = dict.fromkeys(
    ("numpy", "h5py", "onnxruntime", "openvino", "openslide-python", "simplejpeg", "scikit-image", "scipy"), "1.0"
)


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "library_versions", lambda: VERSIONS)


@pytest.fixture
def table(tmp_path: Path, lossless_slide: Path) -> Callable[..., Facts]:
    """The whole table of a run, or with `work=False` what is known before; of other settings, or another model."""

    def make(
        *,
        yaml: dict[str, Any] | None = None,
        work: bool = True,
        backend: str = "onnxruntime",
        source: TissueSource | None = None,
        mask: bool = True,
        widths: tuple[int, ...] = (0, 0, 0),
        path: Path = lossless_slide,
        **changes: Any,
    ) -> Facts:
        model = write_package(tmp_path / "model", yaml_changes=yaml)
        settings = RunSettings.of(path, model, tmp_path / "out.h5", backend=backend, **changes)
        package = read_package(model).with_positive_class(settings.model.positive_class)
        slide = open_under(settings.slide, package)
        slide.pyramid.reader.close()
        if not work:
            return facts_before(settings, package, slide, source or TissueSource())
        downsample = mask_downsample(slide.pyramid.grid)
        found = np.full((round(768 / downsample), round(1024 / downsample)), mask)
        engine = SimpleNamespace(backend="onnxruntime" if backend == "auto" else backend, batch_shape=4)
        rule = rule_of(slide, found, source)
        return facts_at_work(settings, package, slide, rule, [engine] * 3, widths)  # type: ignore[list-item]

    return make


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, list):
        return [*value[:-1], other(value[-1])]
    return {bool: lambda: not value, str: lambda: f"{value[:-1]}?"}.get(type(value), lambda: value + 1)()


def test_every_fact_that_is_changed_alone_is_named_alone(table: Callable[..., Facts]) -> None:
    facts = table()
    assert len({fact.name for fact in facts}) == len({fact.words for fact in facts}) == len(facts) > 25
    for fact in facts:
        found = values_of(facts) | {fact.name: other(fact.value)}
        (difference,) = differences(found, facts)
        assert str(difference).startswith(fact.words)
        fixed = run_hash(tuple(replace(one, value=found[one.name]) for one in facts)) == run_hash(facts)
        assert fixed == (fact.kind in {Kind.VERSION, Kind.PROCESSOR}), fact.name
    assert differences(values_of(facts), facts) == []


FILE = RegionFile("roi", "roi.geojson", "ab" * 32)
MATTERS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "µm/px": ({"mpp": 0.26}, {"mpp", "mask_sha256"}),
    "levels": ({"levels": "scale"}, {"levels"}),
    "least tissue": ({"min_tissue": 0.2}, {"min_tissue"}),
    "region": ({"source": TissueSource("otsu-hsv-1, within roi", (FILE,))}, {"tissue_method", "roi_file_sha256"}),
    "tissue": ({"mask": False}, {"mask_sha256"}),
    "mode": ({"mode": Mode.EXHAUSTIVE}, {"mode"}),
    "threshold": ({"thresholds": {1: 0.2}}, {"thresholds"}),
    "positive class": ({"positive_class": "normal"}, {"positive_class"}),
    "stain": ({"yaml": MACENKO}, {"stain", "stain_target", "model_yaml_sha256"}),
    "description of the model": ({"yaml": {"classes": ["other", "tumor"]}}, {"model_yaml_sha256"}),
    "features": ({"features": True, "widths": (3, 3, 3)}, {"features", "feature_widths"}),
    "backend": ({"backend": "openvino"}, {"backend"}),
    "precision": ({"backend": "openvino", "precision": "bfloat16"}, {"backend", "precision"}),
}


@pytest.mark.parametrize("case", MATTERS)
def test_what_a_user_may_change_is_in_the_table(table: Callable[..., Facts], case: str) -> None:
    changes, named = MATTERS[case]
    found = values_of(table())
    assert {one.fact.name for one in differences(found, table(**changes))} == named


def test_another_target_of_the_stain_counts(table: Callable[..., Facts]) -> None:
    found = values_of(table(yaml=MACENKO))
    named = {one.fact.name for one in differences(found, table(yaml={"stain": MACENKO["stain"] | {"target": TARGET}}))}
    assert named == {"stain_target", "model_yaml_sha256"}


def test_whose_stain_it_is_counts_and_stands_in_the_table_only_where_it_is_each_tiles(
    table: Callable[..., Facts], tmp_path: Path
) -> None:
    of_slide, of_tile = (table(yaml={"stain": MACENKO["stain"] | said}) for said in ({}, {"per": "tile"}))
    assert "stain_per" not in values_of(of_slide) | attributes_of(of_slide)  # journals and results of before match
    assert attributes_of(of_tile)["stain_per"] == "tile"
    assert attributes_of(of_tile)["stain_target"] == attributes_of(of_slide)["stain_target"]
    assert run_hash(of_tile) != run_hash(of_slide)
    with pytest.raises(InputError, match=r"other unit of the stain normalisation \(slide, now tile\); model.yaml;"):
        joined_manifest(tmp_path, manifest_of(of_slide), of_tile, accept_mixed=True)
    with pytest.raises(InputError, match=r"other model.yaml;"):
        joined_manifest(tmp_path, manifest_of(of_tile), of_slide, accept_mixed=True)
    assert joined_manifest(tmp_path, manifest := manifest_of(of_tile), of_tile, accept_mixed=False) == (manifest, "")
    execution = Execution(attributes_of(of_slide) | VERSIONS, result_of().execution.ranks)
    found = values_in_result(read_origin(write_file(tmp_path / "result.h5", result_of(execution=execution))))
    assert "stain_per" in {one.fact.name for one in differences(found, of_tile)}
    assert "stain_per" not in {one.fact.name for one in differences(found, of_slide)}


def test_how_odd_levels_are_read_counts_and_stands_in_the_table_only_where_it_is_by_their_own_pixels(
    table: Callable[..., Facts], tmp_path: Path, stored_images: list[np.ndarray]
) -> None:
    odd = write_slide(tmp_path / "odd.tif", [image[:, :-1] for image in stored_images], compression="zlib")
    own, before = (table(path=odd, odd_levels=way) for way in ODD_LEVELS)
    assert attributes_of(own)["odd_levels"] == "own"
    for facts in (before, table(), table(odd_levels="interpolated")):  # journals and results of before match
        assert "odd_levels" not in values_of(facts) | attributes_of(facts)
    for journal, now, said in ((before, own, "interpolated, now own"), (own, before, "own, now interpolated")):
        with pytest.raises(InputError, match=rf"is the journal of a run with other --odd-levels \({said}\); resume"):
            joined_manifest(tmp_path, manifest_of(journal), now, accept_mixed=True)
    assert run_hash(own) != run_hash(before)
    for made in (own, before):
        execution = Execution(attributes_of(made) | VERSIONS, result_of().execution.ranks)
        found = values_in_result(read_origin(write_file(tmp_path / "result.h5", result_of(execution=execution))))
        for way in ODD_LEVELS:
            wanted = table(path=odd, odd_levels=way, work=False)
            differs = "odd_levels" in {one.fact.name for one in differences(found, wanted)}
            assert differs == ((way == "own") != (made is own))
    # own pixels are decoded by the same libraries whatever reader has the other levels
    assert differences(values_of(own), table(path=odd, reader="openslide")) == []
    assert values_of(own).keys() == values_of(table(path=odd, reader="openslide")).keys()
    assert [str(one) for one in differences({"quickhash": "ab", "odd_levels": "own"}, before[:1])] == [
        str(Difference(before[0], "ab"))
    ]


def test_another_type_of_features_counts_and_stands_in_the_table_only_where_it_is_one(
    table: Callable[..., Facts], tmp_path: Path
) -> None:
    whole, half = table(features=True), table(features=True, feature_type="float16")
    assert "feature_type" not in values_of(whole)  # journals and results of before match
    for journal, now in ((whole, half), (half, whole)):
        with pytest.raises(InputError, match="other --feature-type"):
            joined_manifest(tmp_path, manifest_of(journal), now, accept_mixed=True)
    assert joined_manifest(tmp_path, manifest := manifest_of(half), half, accept_mixed=False) == (manifest, "")


@pytest.mark.parametrize("windows", [Windows(32), Windows(16, mode="adaptive")], ids=lambda one: one.mode)
def test_a_stride_counts_and_stands_in_the_table_only_where_there_is_one(
    table: Callable[..., Facts], tmp_path: Path, windows: Windows
) -> None:
    def of_result(facts: Facts) -> dict[str, Any]:
        execution = Execution(attributes_of(facts) | VERSIONS, result_of().execution.ranks)
        return values_in_result(read_origin(write_file(tmp_path / "result.h5", result_of(execution=execution))))

    plain, strided = table(mode=Mode.REFERENCE), table(mode=Mode.REFERENCE, windows=windows)
    assert "stride" not in values_of(plain) | attributes_of(plain)  # journals and results of before match
    for journal, now, said in ((plain, strided, "none, now"), (strided, plain, f"{windows.stride}, now none")):
        with pytest.raises(InputError, match=rf"is the journal of a run with other .*--stride \({said}"):
            joined_manifest(tmp_path, manifest_of(journal), now, accept_mixed=True)
    for asked in (plain, strided):
        for looked_for in (Windows(), windows):
            wanted = table(mode=Mode.REFERENCE, windows=looked_for, work=False)
            differs = "--stride" in {one.fact.words for one in differences(of_result(asked), wanted)}
            assert differs == ((asked is strided) != looked_for.given)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 3},
        {"batch_size": 5},
        {"policy": "static"},
        {"reader": "openslide"},
        {"allow_upsampling": True},
        {"compiled_cache": False},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_does_not_decide_is_not_in_it(table: Callable[..., Facts], changes: dict[str, Any]) -> None:
    assert differences(values_of(table()), table(**changes)) == []


def test_what_a_model_is_for_decides_nothing(table: Callable[..., Facts], tmp_path: Path) -> None:
    stated = table(yaml={"intended_use": "demonstration"})
    assert differences(values_of(table()), stated) == []
    manifest = manifest_of(table())
    assert joined_manifest(tmp_path, manifest, stated, accept_mixed=False) == (manifest, "")
    shipped = read_package(default_model()).with_positive_class(None)
    facts = values_of(facts_asked(RunSettings.of(tmp_path, default_model(), tmp_path), shipped))
    # SHA-256 of the shipped description as journals and results of before it said its use hold it
    assert facts["model_yaml_sha256"] == "3596bd893037f17e15059093798dffd19bba368480cc959ca10159506e377d73"


def test_only_libraries_that_compute_are_in_it(table: Callable[..., Facts]) -> None:
    def libraries(**changes: Any) -> set[str]:
        return VERSIONS.keys() & values_of(table(**changes)).keys()

    always = {"numpy", "openslide-python"}
    segmented = always | {"simplejpeg", "scikit-image", "scipy"}
    given = TissueSource("given")
    assert libraries() == segmented | {"onnxruntime"}
    assert libraries(backend="openvino") == segmented | {"openvino"}
    assert libraries(backend="openvino", yaml=MACENKO) == segmented | {"openvino", "onnxruntime"}
    assert libraries(source=given, reader="openslide") == always | {"onnxruntime"}
    # either may run the networks
    assert libraries(work=False, backend="auto") == segmented | {"onnxruntime", "openvino"}
    assert "backend" not in values_of(table(work=False, backend="auto"))


def test_it_goes_through_json_and_back_to_the_last_bit(table: Callable[..., Facts], tmp_path: Path) -> None:
    facts = table(thresholds={0: 0.1 + 0.2})
    (tmp_path / "manifest.json").write_bytes(manifest_of(facts, (17, 1763640000123456789)).to_bytes())
    manifest = read_manifest(tmp_path / "manifest.json")
    assert manifest.facts == values_of(facts)
    assert json.loads(json.dumps(values_of(facts))) == values_of(facts)
    assert manifest.replaces == (17, 1763640000123456789)
    assert joined_manifest(tmp_path, manifest, facts, accept_mixed=False) == (manifest, "")


def test_versions_may_be_mixed_on_request_and_nothing_else(table: Callable[..., Facts]) -> None:
    facts = table()
    newer = values_of(facts) | {"numpy": "0.9"}
    options: dict[str, Any] = {"otherwise": "wait"}
    with pytest.raises(InputError, match=r"of other numpy \(0\.9, now 1\.0\); .* --accept-mixed, wait$"):
        check_same("of", newer, facts, accept_mixed=False, **options)
    assert [str(one) for one in check_same("of", newer, facts, accept_mixed=True, **options)] == [
        "numpy (0.9, now 1.0)"
    ]
    for accept in (False, True):
        with pytest.raises(InputError, match=r"of other mode \(\?, now pyramid\); numpy \(0\.9, now 1\.0\); wait$"):
            check_same("of", newer | {"mode": "?"}, facts, accept_mixed=accept, **options)
        assert len(check_same("of", values_of(facts) | {"cpu": "Z80"}, facts, accept_mixed=accept, **options)) == 1


def test_a_journal_remembers_all_that_took_part(table: Callable[..., Facts], tmp_path: Path) -> None:
    def start_of(**values: str) -> Facts:
        return tuple(replace(fact, value=values.get(fact.name, fact.value)) for fact in table())

    manifest = manifest_of(start_of(numpy="0.8", cpu="Z80"))
    manifest, mixed = joined_manifest(tmp_path, manifest, start_of(cpu="6502"), accept_mixed=True)
    assert mixed == "numpy 0.8, 1.0; processor Z80, 6502"
    again, mixed = joined_manifest(tmp_path, manifest, start_of(cpu="6502"), accept_mixed=True)
    assert (again, mixed) == (manifest, "numpy 0.8, 1.0; processor Z80, 6502")
    last, mixed = joined_manifest(tmp_path, again, start_of(numpy="0.8", cpu="68000"), accept_mixed=False)
    assert mixed == "numpy 0.8, 1.0; processor Z80, 6502, 68000"
    assert (last.run_hash, last.facts) == (manifest.run_hash, manifest.facts)
    assert attributes_of(start_of(), mixed)["mixed"] == mixed


def test_a_journal_that_knows_other_facts_is_of_another_version(table: Callable[..., Facts], tmp_path: Path) -> None:
    facts = table()
    for changed in (manifest_of(facts[:-3]), manifest_of((*facts, replace(facts[0], name="weather")))):
        with pytest.raises(InputError, match="another version of this program"):
            joined_manifest(tmp_path, changed, facts, accept_mixed=True)


def test_a_result_holds_all_that_is_known_before_the_work(table: Callable[..., Facts], tmp_path: Path) -> None:
    facts = table(min_tissue=0.25)
    execution = Execution(attributes_of(facts) | VERSIONS, result_of().execution.ranks)
    path = write_file(tmp_path / "result.h5", result_of(execution=execution))
    found, before = values_in_result(read_origin(path)), table(work=False)
    assert {fact.name for fact in before} <= found.keys()
    elsewhere = {fact.name for fact in before if fact.has_own_place and fact.kind is not Kind.VERSION}
    assert {one.fact.name for one in differences(found, before)} <= elsewhere | {"min_tissue", "software_version"}
    assert found["min_tissue"] == 0.25


def test_of_an_older_result_what_it_holds_is_compared_and_no_version(
    table: Callable[..., Facts], tmp_path: Path
) -> None:
    facts = table()
    new = {"libraries", "stain_target", "batch_shapes"}
    attributes = {name: value for name, value in attributes_of(facts).items() if name not in new}
    execution = Execution(attributes | dict.fromkeys(VERSIONS, "0.1") | {"cpu": "Z80"}, result_of().execution.ranks)
    found = values_in_result(read_origin(write_file(tmp_path / "result.h5", result_of(execution=execution))))
    before = table(work=False, backend="openvino", precision="bfloat16")
    named = {one.fact.name for one in differences(found, before) if not one.fact.has_own_place}
    assert named == {"backend", "precision"}
    assert not any(one.fact.kind is Kind.VERSION for one in differences(found, before))
