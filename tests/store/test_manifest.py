"""A manifest says all that decides a result, and names what differs."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.store.journal.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = Manifest(
    quickhash="ab" * 32,
    mpp=0.2528,
    model_sha256=("01" * 32, "23" * 32),
    model_yaml_sha256="45" * 32,
    positive_class="tumor",
    thresholds=(0.5, 0.1 + 0.2),
    mode="pyramid",
    min_tissue=0.05,
    allow_upsampling=False,
    features=(0, 0),
    tissue_method="otsu-hsv-1",
    tissue_mask_sha256="67" * 32,
    stain='{"method": "macenko"}',
    backend="onnxruntime",
    precision="float32",
    batch_shapes=(4, 4),
    software_version="0.1.0",
    libraries=("numpy 2.4.0",),
    replaces=(17, 1763640000123456789),
)


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, tuple):
        return (*value[:-1], other(value[-1]))
    return {bool: lambda: not value, str: lambda: value[:-1] + "x"}.get(type(value), lambda: value + 1)()


def test_it_is_read_back_to_the_last_bit_of_a_threshold(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(MANIFEST.to_bytes())
    assert read_manifest(tmp_path / "manifest.json") == MANIFEST
    document = json.loads(MANIFEST.to_bytes().splitlines()[0])
    assert document["thresholds"] == [0.5, 0.30000000000000004]


@pytest.mark.parametrize("name", [one.name for one in fields(Manifest) if one.name not in {"cpu", "replaces"}])
def test_every_fact_counts_and_is_named_when_it_differs(name: str) -> None:
    changed = replace(MANIFEST, **{name: other(getattr(MANIFEST, name))})
    (difference,) = MANIFEST.differences(changed)
    assert difference.startswith(name)
    assert changed.run_hash() != MANIFEST.run_hash()


def test_what_the_result_replaces_and_the_processor_do_not_count() -> None:
    changed = replace(MANIFEST, replaces=None, cpu="another")
    assert MANIFEST.differences(changed) == []
    assert changed.run_hash() == MANIFEST.run_hash()


def test_any_flipped_bit_is_refused(tmp_path: Path) -> None:
    data, path = MANIFEST.to_bytes(), tmp_path / "manifest.json"
    for place in range(0, 8 * len(data), 17):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(bytes(damaged))
        with pytest.raises(InputError, match=r"manifest\.json"):
            read_manifest(path)


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_torn_one_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(MANIFEST.to_bytes()[:length])
    with pytest.raises(InputError, match="damaged"):
        read_manifest(path)
