"""A manifest comes back as it was written, or is refused."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.store.journal.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = Manifest(
    run_hash="ab" * 32,
    facts={"thresholds": [0.5, 0.1 + 0.2], "mode": "pyramid", "features": False, "stain": ""},
    replaces=(17, 1763640000123456789),
    later_starts=({"numpy": "2.4.0"}, {"numpy": "2.5.0"}),
)


@pytest.mark.parametrize("manifest", [MANIFEST, Manifest("cd" * 32, {})], ids=["full", "empty"])
def test_it_is_read_back_to_the_last_bit_of_a_threshold(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(manifest.to_bytes())
    assert read_manifest(tmp_path / "manifest.json") == manifest


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


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"format": "pyramidai-journal/1", "mode": "pyramid"}, "written by an older version"),
        ({"format": "pyramidai-journal/99", "anything": 1}, "written by another version"),
        ({"format": "pyramidai-journal/2", "facts": {}}, "no manifest of a journal"),
        (
            {"format": "pyramidai-journal/2", "run_hash": "", "facts": [1], "replaces": None, "later_starts": []},
            "no manifest of a journal",
        ),
        ([1, 2], "no manifest of a journal"),
    ],
)
def test_one_of_another_format_is_refused_with_what_to_do(tmp_path: Path, document: object, said: str) -> None:
    line = json.dumps(document).encode()
    (tmp_path / "manifest.json").write_bytes(line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n")
    with pytest.raises(InputError, match=f"{said}.* --overwrite"):
        read_manifest(tmp_path / "manifest.json")
