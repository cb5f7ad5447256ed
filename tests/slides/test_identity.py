"""The quick hash, recomputed from its words in the design."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.identity import FullHash, quickhash

MIB, BLOCK = 2**20, 2**16


def recomputed(data: bytes) -> str:
    size = len(data)
    spans = [data[:MIB], data[max(0, size - MIB) :]]
    spans += [data[start : start + BLOCK] for start in (i * max(size - BLOCK, 0) // 63 for i in range(64))]
    return hashlib.sha256(size.to_bytes(8, "little") + b"".join(spans)).hexdigest()


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, MIB + 1, 9_000_001], ids=str)
def test_it_covers_size_first_and_last_mib_and_64_even_blocks(tmp_path, size):
    data = np.random.default_rng(size).bytes(size)
    path = tmp_path / "slide"
    path.write_bytes(data)
    assert quickhash(path) == recomputed(data)


@pytest.mark.parametrize("place", [0, MIB - 1, -1, -MIB, 30 * 4_500_000 // 63], ids=str)
def test_a_changed_byte_in_a_hashed_place_changes_it(tmp_path, place):
    data = bytearray(4_500_000 + BLOCK)
    path = tmp_path / "slide"
    path.write_bytes(data)
    before = quickhash(path)
    data[place] ^= 1
    path.write_bytes(data)
    assert quickhash(path) != before


def test_the_name_does_not_matter(tmp_path):
    for name in ("a.tif", "b.svs"):
        (tmp_path / name).write_bytes(b"pixels" * 1000)
    assert quickhash(tmp_path / "a.tif") == quickhash(tmp_path / "b.svs")


@pytest.mark.parametrize("size", [0, 1, 3_000_001])
def test_the_full_hash_is_the_sha256_of_all_bytes(tmp_path, size):
    data = np.random.default_rng(size).bytes(size)
    path = tmp_path / "slide"
    path.write_bytes(data)
    assert FullHash(path).result() == hashlib.sha256(data).hexdigest()


def test_a_full_hash_of_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(InputError, match="gone"):
        FullHash(tmp_path / "gone").result()
