"""What was made ready is found again by whoever asks for the very same, and by nobody else; damage is seen."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pwd
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pyramidai_mpi.models.engines import compiled_network, network_cache
from pyramidai_mpi.models.engines.network_cache import NetworkCache, facts_of
from pyramidai_mpi.models.package import load_package
from tests.packages import write_package

COMPILED = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package of three levels."""
    return load_package(write_package(tmp_path_factory.mktemp("models") / "m"))


@pytest.fixture
def facts(package):
    """Of its level 0 in a library that is installed."""
    return facts_of(package.levels[0], package, "onnxruntime", "float32")


@pytest.fixture
def cache(tmp_path):
    """An empty one."""
    return NetworkCache(tmp_path / "pyramidai" / "networks")


def files(cache):
    return sorted(cache._folder.iterdir())


def the_file(cache):
    (path,) = files(cache)
    return path


def test_what_was_kept_is_found_byte_for_byte(cache, facts):
    assert cache.find(facts) is None
    kept = cache.keep(facts, 4, 7, COMPILED)
    found = cache.find(facts)
    assert kept == found
    assert (found.batch_shape, found.n_features) == (4, 7)
    assert found.compiled().data.tobytes() == found.read() == COMPILED


def test_a_file_is_its_description_the_network_and_a_sha256_of_each_and_of_all(cache, facts):
    cache.keep(facts, 4, 7, COMPILED)
    whole = the_file(cache).read_bytes()
    assert json.loads(whole[:4064].rstrip(b"\0"))["facts"] == facts
    assert hashlib.sha256(whole[:4064]).digest() == whole[4064:4096]
    assert whole[4096:-32] == COMPILED
    assert hashlib.sha256(whole[:-32]).digest() == whole[-32:]


def test_it_is_for_its_user_alone(cache, facts):
    cache.keep(facts, 4, 0, COMPILED)
    folder = cache._folder
    assert [path.stat().st_mode & 0o777 for path in (folder.parent, folder, the_file(cache))] == [0o700, 0o700, 0o600]


@pytest.mark.parametrize(
    "change",
    [
        lambda package, level: (replace(level, sha256="0" * 64), package, "onnxruntime", "float32"),
        lambda package, level: (level, package, "numpy", "float32"),
        lambda package, level: (level, package, "onnxruntime", "bfloat16"),
        lambda package, level: (level, replace(package, tile_size=65), "onnxruntime", "float32"),
        lambda package, level: (level, replace(package, classes=("a", "b", "c")), "onnxruntime", "float32"),
        lambda package, level: (level, replace(package, sees_position=True), "onnxruntime", "float32"),
    ],
    ids=["network", "library", "precision", "tile", "classes", "position"],
)
def test_another_network_or_library_does_not_find_it(cache, facts, package, change):
    cache.keep(facts, 4, 0, COMPILED)
    assert cache.find(facts_of(*change(package, package.levels[0]))) is None


@pytest.mark.parametrize("what", ["__version__", "_processor", "version"])
def test_another_version_or_processor_does_not_find_it(cache, facts, package, what, monkeypatch):
    cache.keep(facts, 4, 0, COMPILED)
    monkeypatch.setattr(network_cache, what, "0.0" if what == "__version__" else lambda *_: "another")
    assert cache.find(facts_of(package.levels[0], package, "onnxruntime", "float32")) is None


def test_a_library_without_a_version_keeps_nothing(cache, package):
    unknown = facts_of(package.levels[0], package, "no-such-distribution", "float32")
    assert cache.keep(unknown, 4, 0, COMPILED) is None
    assert cache.find(unknown) is None


@pytest.mark.parametrize("place", [0, 20, 4095, 4096, 1_000_000, -33, -1])
def test_one_changed_bit_is_seen_and_the_file_goes(cache, facts, place):
    cache.keep(facts, 4, 0, COMPILED)
    path = the_file(cache)
    whole = bytearray(path.read_bytes())
    whole[place] ^= 1
    path.write_bytes(whole)
    found = cache.find(facts)
    assert found is None or found.compiled() is None
    assert files(cache) == []
    assert cache.keep(facts, 4, 0, COMPILED).compiled().data.tobytes() == COMPILED


@pytest.mark.parametrize("compiled", [b"", COMPILED], ids=["nothing compiled", "compiled"])
@pytest.mark.parametrize(
    ("was", "became"), [(b'"n_features": 7', b'"n_features": 5'), (b"batch_shape", b"batch_shapd")]
)
def test_what_was_found_is_not_believed_when_it_was_changed(cache, facts, compiled, was, became):
    cache.keep(facts, 4, 7, compiled)
    whole = the_file(cache).read_bytes()
    assert whole.count(was) == 1
    the_file(cache).write_bytes(whole.replace(was, became))
    assert cache.find(facts) is None
    assert files(cache) == []


def test_a_file_of_nothing_but_brackets_is_no_entry(cache, facts):
    cache.keep(facts, 4, 7, b"")
    the_file(cache).write_bytes(b"[" * 4128)
    assert cache.find(facts) is None
    assert files(cache) == []


@pytest.mark.parametrize("left", [0, 100, 5000, 3_004_127])
def test_a_file_that_is_cut_short_is_seen(cache, facts, left):
    cache.keep(facts, 4, 0, COMPILED)
    os.truncate(the_file(cache), left)
    assert cache.find(facts) is None
    assert files(cache) == []


def test_one_that_goes_between_finding_and_loading_is_none(cache, facts):
    found = cache.keep(facts, 4, 0, COMPILED)
    the_file(cache).unlink()
    assert found.compiled() is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_never_loaded(cache, facts, mode):
    found = cache.keep(facts, 4, 0, COMPILED)
    the_file(cache).chmod(mode)
    assert found.compiled() is None
    assert cache.find(facts) is None


def test_a_file_of_another_user_is_never_loaded(cache, facts, monkeypatch):
    found = cache.keep(facts, 4, 0, COMPILED)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert found.compiled() is None
    assert cache.find(facts) is None
    assert cache.keep(facts, 4, 0, COMPILED) is None


@pytest.mark.parametrize("which", [".", ".."])
def test_a_folder_that_others_may_write_to_is_not_used(cache, facts, which):
    cache.keep(facts, 4, 0, COMPILED)
    (cache._folder / which).chmod(0o770)
    assert cache.find(facts) is None
    assert cache.keep(facts, 4, 0, COMPILED) is None


def test_links_are_not_followed(cache, facts, tmp_path):
    cache.keep(facts, 4, 0, COMPILED)
    path = the_file(cache)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.find(facts) is None
    linked = NetworkCache(tmp_path / "own" / "link")
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "own" / "link").symlink_to(cache._folder)
    assert linked.find(facts) is None


@pytest.mark.parametrize("at", ["file", "no folder"])
def test_where_there_can_be_no_folder_nothing_is_kept(at, facts, tmp_path):
    (tmp_path / "file").write_text("")
    cache = NetworkCache(tmp_path / "file" / "networks" if at == "file" else None)
    assert cache.keep(facts, 4, 0, COMPILED) is None
    assert cache.find(facts) is None


def test_where_there_is_no_home_a_line_says_so_once(facts, tmp_path, caplog, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "no" / "home"))
    caplog.set_level("INFO")
    cache = NetworkCache.of_user()
    assert cache.find(facts) is None
    assert caplog.messages == []
    for _ in range(2):
        assert cache.keep(facts, 4, 0, COMPILED) is None
    (line,) = caplog.messages
    assert line.startswith("compiled networks are not kept: ")
    assert str(tmp_path / "no") in line
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_where_the_system_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert NetworkCache.of_user()._folder == tmp_path / "own/pyramidai/networks"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, so it does not count")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert NetworkCache.of_user()._folder == tmp_path / ".cache/pyramidai/networks"


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_of_that_name_the_listed_one_is_taken_and_never_the_root(home, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert NetworkCache.of_user()._folder == Path(pwd.getpwuid(os.geteuid()).pw_dir, ".cache/pyramidai/networks")


def test_a_user_who_is_not_listed_has_no_folder(monkeypatch, caplog):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1_234_567_890)
    caplog.set_level("INFO")
    network_cache._say_once.cache_clear()
    assert NetworkCache.of_user()._folder is None
    assert "this user has no home; name a folder in XDG_CACHE_HOME" in caplog.messages[0]


def test_in_the_home_of_somebody_else_nothing_is_made(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert NetworkCache.of_user()._folder is None


def test_those_not_used_for_longest_go_first(cache, facts):
    size = 4096 + len(COMPILED) + 32
    small = NetworkCache(cache._folder, most_bytes=3 * size)
    others = [dict(facts, network=str(n)) for n in range(4)]
    for n, one in enumerate(others[:3]):
        entry = small.keep(one, 4, 0, COMPILED)
        os.utime(entry.path, (time.time() - 1000 + n,) * 2)
    assert small.find(others[0]) is not None  # used now
    assert small.keep(others[3], 4, 0, COMPILED) is not None
    assert [small.find(one) is not None for one in others] == [True, False, True, True]
    assert sum(path.stat().st_size for path in files(cache)) <= 3 * size


def test_one_larger_than_all_may_be_is_not_kept_and_drives_none_out(cache, facts):
    cache.keep(facts, 4, 0, b"small")
    small = NetworkCache(cache._folder, most_bytes=100_000)
    assert small.keep(dict(facts, network="large"), 4, 0, COMPILED) is None
    assert cache.find(facts) is not None


def test_what_a_killed_run_has_left_goes_after_an_hour(cache, facts):
    cache.keep(facts, 4, 0, b"")
    old, new = cache._folder / "a.part", cache._folder / "b.part"
    for path, age in ((old, 4000), (new, 100)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    cache.keep(facts, 4, 0, b"")
    assert (old.exists(), new.exists()) == (False, True)


def write_again_and_again(folder, facts, n):
    cache = NetworkCache(folder)
    for _ in range(n):
        assert cache.keep(facts, 4, 0, COMPILED) is not None


def test_who_reads_while_others_write_and_remove_has_it_whole_or_not_at_all(cache, facts):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_again_and_again, args=(cache._folder, facts, 20)) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        found = cache.find(facts)
        compiled = None if found is None else found.compiled()
        if compiled is not None:
            assert compiled.data.tobytes() == COMPILED
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    last = cache.find(facts)
    assert last is not None
    compiled = last.compiled()
    assert compiled is not None
    assert compiled.data.tobytes() == COMPILED
    assert [path.suffix for path in files(cache)] == [".network"]


def test_what_is_written_into_a_compiled_network_reaches_no_file(cache, facts):
    data = cache.keep(facts, 4, 0, COMPILED).compiled().data
    data[:10] = 0
    assert cache.find(facts).compiled().data.tobytes() == COMPILED


def test_memory_that_was_let_go_comes_back_as_it_was(cache, facts):
    compiled = cache.keep(facts, 4, 0, COMPILED).compiled()
    with compiled.while_read():
        assert all(compiled.data.tobytes() == COMPILED for _ in range(30))
    assert compiled.data.tobytes() == COMPILED


def test_on_a_file_system_of_another_machine_it_is_copied(cache, facts, monkeypatch):
    monkeypatch.setattr(network_cache, "is_on_local_disk", lambda _: False)
    compiled = cache.keep(facts, 4, 0, COMPILED).compiled()
    os.truncate(the_file(cache), 0)  # a map of it would end the process
    assert compiled.data.tobytes() == COMPILED


def test_without_a_place_for_temporary_files_it_stays_in_memory(monkeypatch):
    def none_there():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiled_network.tempfile, "TemporaryFile", none_there)
    compiled = compiled_network.CompiledNetwork.of(COMPILED)
    with compiled.while_read():
        pass
    assert compiled.data.tobytes() == COMPILED
