"""A bit that changed in a result file is noticed, and a malicious file is refused before it does harm."""

from __future__ import annotations

import hashlib
import struct

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.faults.bitflips import REFUSED, WITHOUT_EFFECT, everything, flips
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.store.results.reader import read_digest, summarise
from pyramidai_mpi.store.results.seal import check_seal, rows_on_disk, seal_file
from pyramidai_mpi.store.results.writer import TableWriter, create_file, finish_file, slab_of, write_slab
from tests.results import CREATED, result_of, write_file

N_FEATURES = 40


def with_features(path):
    """A result file that has features, too."""
    plain = result_of()
    levels = tuple(type(level)(**(vars(level) | {"n_features": N_FEATURES})) for level in plain.levels)
    result = result_of(levels=levels)
    create_file(path, result, CREATED, "0.1.0")
    write_slab(path, slab_of(result, 0, 1))
    writer = TableWriter(path)
    rng = np.random.default_rng(0)
    for n in range(3):
        writer.write(n, "features", 0, rng.random((len(result.tree.levels[n]), N_FEATURES), np.float32))
    writer.close()
    finish_file(path, result.execution, result.digest())
    return path


@pytest.fixture
def path(tmp_path):
    """A result file for a test to spoil."""
    return write_file(tmp_path / "out.h5", result_of())


def reseal(path):
    """Make a spoilt file's seal fit again, as who means harm would."""
    seal_file(path, [])


def refusal(path, read=read_digest):
    with pytest.raises(InputError, match=r"out\.h5") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("make", "n"), [(lambda path: write_file(path, result_of()), 2000), (with_features, 80)])
def test_of_many_single_bits_each_is_noticed(make, n, tmp_path):
    # any number of them: bench/faults/bitflips.py
    tried = flips(make(tmp_path / "out.h5"), n, seed=20261120)
    assert {one.outcome for one in tried} <= {REFUSED, WITHOUT_EFFECT}
    assert sum(one.outcome == REFUSED for one in tried) > n * 0.9


def stretches(path):
    """Where the file keeps rows of each table, and its texts."""
    data = path.read_bytes()
    found = {
        "texts": [(data.index(b"pyramidai slide.tif"), 19), (data.index(b"ab" * 32), 64), (data.index(b"name: x"), 7)]
    }
    with h5py.File(path) as file:

        def note(name, item):
            if isinstance(item, h5py.Dataset) and item.size:
                chunks = [item.id.get_chunk_info(i) for i in range(item.id.get_num_chunks())]
                found[name] = [(chunk.byte_offset, chunk.size) for chunk in chunks]

        file.visititems(note)
    return found


def test_every_table_and_text_is_covered(tmp_path):
    path = with_features(tmp_path / "out.h5")
    places = stretches(path)
    assert {"failed", "tissue/mask", "execution/ranks", "levels/0/features", "levels/2/coords", "texts"} <= set(places)
    sound = path.read_bytes()
    rng = np.random.default_rng(5)
    for spans in places.values():
        for start, length in spans[:3]:
            spoilt = bytearray(sound)
            spoilt[start + rng.integers(length)] ^= 1 << int(rng.integers(8))
            path.write_bytes(spoilt)
            with pytest.raises(InputError):
                everything(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small result file, its bytes, and all that can be had from it."""
    path = write_file(tmp_path_factory.mktemp("fuzz") / "out.h5", result_of(np.ones((6, 6), bool)))
    return path, path.read_bytes(), everything(path)


@given(edits=st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6))
@settings(max_examples=30)
def test_bytes_written_over_anything_are_noticed_or_without_effect(edits, small):
    path, sound, before = small
    data = bytearray(sound)
    for place, new in edits:
        data[place % len(data) : place % len(data) + len(new)] = new
    path.write_bytes(data)
    try:
        after = everything(path)
    except InputError:
        return
    assert after == before


@pytest.mark.parametrize("change", ["text", "number", "new", "removed", "rows"])
def test_what_was_changed_by_hand_is_noticed(path, change):
    with h5py.File(path, "r+") as file:
        attributes = file["slide"].attrs
        if change == "text":
            attributes["name"] = "slide.tiff"
        elif change == "number":
            attributes["mpp"] = 0.25
        elif change == "new":
            attributes["stain"] = "H&E"
        elif change == "removed":
            del attributes["vendor"]
        else:
            file["levels/0/probability"][0, 0] += 0.25
    for read in (read_digest, summarise):
        assert "changed after it was written" in refusal(path, read)


def test_rows_that_were_changed_by_hand_give_another_digest_though_the_seal_fits(path):
    with h5py.File(path, "r+") as file:
        file["levels/0/probability"][0, 0] += 0.25
    reseal(path)
    assert "digest" in refusal(path)


def test_the_seal_is_a_hash_of_all_bytes_before_it_but_the_features(tmp_path):
    path = with_features(tmp_path / "out.h5")
    with h5py.File(path) as file:
        features = sorted(place for n in range(3) for place in rows_on_disk(file[f"levels/{n}/features"]))
        assert sum(last - first for first, last in features) >= 4 * N_FEATURES * sum(
            len(file[f"levels/{n}/index"]) for n in range(3)
        )
    data = path.read_bytes()
    n_ranges, seal, magic = struct.unpack("<Q32s16s", data[-56:])
    ranges = data[-56 - 16 * n_ranges : -56]
    covered, start = b"", 0
    for first, last in [*struct.iter_unpack("<QQ", ranges), (len(data) - 56 - len(ranges),) * 2]:
        covered += data[start:first]
        start = last
    assert magic == b"pyramidai-seal/1"
    assert seal == hashlib.sha256(ranges + covered).digest()
    left_out = set().union(*(range(*pair) for pair in struct.iter_unpack("<QQ", ranges)))
    assert left_out == set().union(*(range(*pair) for pair in features))


@pytest.mark.parametrize("n_ranges", [1, 3, 1 << 40, (1 << 64) - 1])
def test_a_trailer_that_leaves_out_what_is_not_there_is_refused(path, n_ranges):
    data = path.read_bytes()
    path.write_bytes(data[:-56] + struct.pack("<QQ", 10, 1 << 62) + struct.pack("<Q", n_ranges) + data[-48:])
    with pytest.raises(InputError):
        check_seal(path)


def outside(file, kind):
    """Make `file` reach beyond itself."""
    other = file.filename + ".other.h5"
    with h5py.File(other, "w") as elsewhere:
        elsewhere["secret"] = np.arange(10)
    if kind == "external link":
        file["slide/more"] = h5py.ExternalLink(other, "/secret")
    elif kind == "soft link":
        file["slide/more"] = h5py.SoftLink("/levels/0")
    elif kind == "virtual table":
        layout = h5py.VirtualLayout((10,), "i8")
        layout[:] = h5py.VirtualSource(other, "secret", (10,))
        file.create_virtual_dataset("slide/more", layout)
    elif kind == "external storage":
        file.create_dataset("slide/more", (10,), "i8", external=[("/etc/passwd", 0, 80)])
    elif kind == "circle":
        file["slide/more"] = file["/"]
    elif kind == "two names":
        file["slide/more"] = file["levels"]
    elif kind == "named type":
        file["slide/more"] = np.dtype("f8")
    elif kind == "texts":
        file.create_dataset("slide/more", data=["a", "b"])
    elif kind == "another filter":
        file.create_dataset("slide/more", (10,), "i8", chunks=(10,), compression="lzf")
    elif kind == "nothing but a claim":
        file.create_dataset("slide/more", (1 << 40,), "f8", chunks=(1 << 20,), compression="gzip")


KINDS = [
    "external link", "soft link", "virtual table", "external storage", "circle", "two names", "named type", "texts",
    "another filter", "nothing but a claim",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_reaches_elsewhere_or_claims_too_much_is_refused(path, kind):
    with h5py.File(path, "r+") as file:
        outside(file, kind)
    reseal(path)
    for read in (read_digest, summarise):
        assert "slide/" in refusal(path, read)


def rows_of(file, n, name, change):
    """Replace a table by a changed copy."""
    rows = file[f"levels/{n}/{name}"][...]
    del file[f"levels/{n}/{name}"]
    file[f"levels/{n}/{name}"] = change(rows)


def swapped(rows):
    rows[[0, 1]] = rows[[1, 0]]
    return rows


BAD_TABLES = {
    "a parent that is not there": (0, "parent", lambda rows: rows + 10**6),
    "a parent below zero": (0, "parent", lambda rows: rows - 10**6),
    "rows out of order": (1, "index", swapped),
    "a tile outside the slide": (2, "index", lambda rows: np.vstack([rows[:-1], rows[-1:] + np.uint32(1000)])),
    "a row too few": (1, "decision", lambda rows: rows[:-1]),
    "an unknown decision": (0, "decision", lambda rows: rows + 7),
    "numbers of another type": (0, "probability", lambda rows: rows.astype("f8")),
    "a column too many": (0, "probability", lambda rows: np.hstack([rows, rows])),
    "no table but a single number": (0, "decision", lambda rows: rows[0]),
}


@pytest.mark.parametrize("what", BAD_TABLES)
def test_tables_that_are_no_tree_are_refused_though_the_seal_fits(path, what):
    with h5py.File(path, "r+") as file:
        rows_of(file, *BAD_TABLES[what])
    reseal(path)
    assert "level" in refusal(path)


def test_a_missing_level_is_refused(path):
    with h5py.File(path, "r+") as file:
        file.move("levels/1", "levels/7")
    reseal(path)
    assert "expected 0..2" in refusal(path)
