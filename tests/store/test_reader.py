"""Only complete results of this program and format are read; anything else is one line."""

from __future__ import annotations

import os
from dataclasses import replace

import h5py
import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.store.results import reader
from pyramidai_mpi.store.results.reader import (
    CheckedResult,
    open_result,
    read_digest,
    read_levels,
    read_origin,
    read_rule,
    summarise,
)
from pyramidai_mpi.store.results.result import Execution
from pyramidai_mpi.store.results.seal import check_seal, seal_file
from pyramidai_mpi.store.results.summary import read_account
from pyramidai_mpi.store.results.tables import read_header, read_level_seconds
from tests.results import result_of, write_file
from tests.trees import rule_of


@pytest.fixture
def path(tmp_path):
    """A result file for a test to spoil."""
    return write_file(tmp_path / "out.h5", result_of())


def refusal(path, read=read_digest) -> str:
    with pytest.raises(InputError, match=r"out\.h5") as caught:
        read(path)
    assert caught.value.exit_code == 65
    return str(caught.value)


def test_what_was_written_is_read(path):
    result = result_of()
    with open_result(path) as file:
        levels = read_levels(file)
    assert sorted(levels) == [0, 1, 2]
    for n, level in levels.items():
        for name in ("index", "probability", "decision", "parent"):
            assert getattr(level, name).tobytes() == getattr(result.tree.levels[n], name).tobytes()


@pytest.mark.parametrize("use", [None, "demonstration", "veterinary"])
def test_what_the_model_is_for_is_read_and_older_files_say_nothing(tmp_path, use):
    result = result_of()
    path = write_file(tmp_path / "out.h5", replace(result, model=replace(result.model, intended_use=use)))
    with h5py.File(path) as file:
        assert file["model"].attrs.get("intended_use") == use
    with open_result(path) as file:
        assert read_header(file).model.intended_use == use
    assert read_digest(path) == result.digest()


def test_the_rule_of_tiles_is_read_back(tmp_path):
    mask = np.random.default_rng(3).random((35, 45)) < 0.2
    result = result_of(mask, execution=timed({"min_tissue": 0.05}))
    with open_result(write_file(tmp_path / "out.h5", result)) as file:
        found, made = read_rule(file), rule_of(mask)
    assert found.grid == made.grid
    assert found.reference_tiles().tobytes() == made.reference_tiles().tobytes()
    assert len(found.reference_tiles()) == result.n_reference_tiles


def timed(attributes, *seconds: tuple[float, ...]) -> Execution:
    ranks = np.zeros(max(len(seconds), 1), [("rank", "<i4"), ("level_s", "<f8", (16,))])
    for rank, one in enumerate(seconds):
        ranks["level_s"][rank, : len(one)] = one
    return Execution(attributes, ranks)


@pytest.mark.parametrize(
    ("execution", "expected"),
    [
        (timed({}, (3.0, 0.5, 0.25), (4.0, 0.0, 0.5)), [7.0, 0.5, 0.75]),
        (timed({"tiles_from_journal": 0}, (3.0, 0.5, 0.25)), [3.0, 0.5, 0.25]),
        (timed({"tiles_from_journal": 9}, (3.0, 0.5, 0.25)), None),
        (timed({}, ()), None),
        (result_of().execution, None),
    ],
    ids=["two ranks", "one rank", "resumed: earlier seconds are lost", "a cohort", "an older file"],
)
def test_seconds_of_each_level_are_those_of_all_ranks(tmp_path, execution, expected):
    with open_result(write_file(tmp_path / "out.h5", result_of(execution=execution))) as file:
        seconds = read_level_seconds(file)
    assert (seconds if seconds is None else seconds.tolist()) == expected


def test_a_summary_counts_what_is_in_the_file(path):
    summary = summarise(path)
    with h5py.File(path) as file:
        for level in summary.levels:
            decision = file[f"levels/{level.level}/decision"][...].tolist()
            assert level.analysed == len(decision)
            assert (level.zoomed, level.unreadable) == (decision.count(1), decision.count(2))
        assert [level.level for level in summary.levels] == [0, 1, 2]
        assert summary.n_tiles_failed == len(file["failed"])
    assert (summary.slide, summary.model, summary.l0_size) == ("slide.tif", "colour", (1440, 1120))
    assert summary.execution["command_line"] == "pyramidai slide.tif"


def test_reading_changes_nothing(path):
    before = path.read_bytes()
    read_digest(path)
    summarise(path)
    assert path.read_bytes() == before


def test_a_missing_file_is_refused(tmp_path):
    assert "no such" in refusal(tmp_path / "out.h5")


@pytest.mark.parametrize("data", [b"", b"slide,label\n", bytes(5000)], ids=["empty", "text", "zeros"])
def test_what_is_no_hdf5_is_refused(path, data):
    path.write_bytes(data)
    assert "HDF5" in refusal(path)


def test_a_cut_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-1000])
    refusal(path)


@pytest.mark.parametrize("read", [read_digest, summarise])
def test_another_programs_hdf5_is_refused(path, read):
    with h5py.File(path, "w") as file:
        file["coords"] = np.zeros((3, 2))
    assert "not of this program" in refusal(path, read)


@pytest.mark.parametrize("read", [read_digest, summarise])
def test_another_version_of_the_format_is_refused(path, read):
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2
    seal_file(path, [])
    assert "version 2, expected 1" in refusal(path, read).replace("np.int64(2)", "2")


@pytest.mark.parametrize("read", [read_digest, summarise])
def test_an_incomplete_result_is_refused(path, read):
    with h5py.File(path, "r+") as file:
        file.attrs["complete"] = False
    seal_file(path, [])
    assert "not complete" in refusal(path, read)


@pytest.mark.parametrize("read", [read_digest, summarise])
@pytest.mark.parametrize("part", ["levels/1/decision", "slide", "levels"])
def test_a_result_that_lacks_a_part_is_refused(path, read, part):
    with h5py.File(path, "r+") as file:
        del file[part]
    seal_file(path, [])
    refusal(path, read)


def test_an_error_of_whoever_reads_is_not_the_files(path):
    with pytest.raises(KeyError, match="mine"), open_result(path):
        raise KeyError("mine")
    with pytest.raises(OSError, match="No space"), open_result(path):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("read", [read_digest, summarise, read_account, read_origin], ids=lambda read: read.__name__)
def test_a_look_at_a_file_hashes_it_once(tmp_path, monkeypatch, read):
    execution = timed({"min_tissue": 0.05, "mode": "pyramid"})
    path = write_file(tmp_path / "out.h5", result_of(execution=execution))
    hashed = []
    monkeypatch.setattr(reader, "check_seal", lambda path: hashed.append(path) or check_seal(path))
    read(path)
    assert hashed == [path]


@pytest.mark.parametrize("change", ["other bytes", "another file", "no file"])
def test_a_checked_file_that_was_changed_is_not_read_on(path, tmp_path, change):
    checked = CheckedResult.check(path)
    with checked.open() as file:
        assert len(read_levels(file)) == 3
    if change == "other bytes":
        path.write_bytes(path.read_bytes()[:-1] + b"0")
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    elif change == "another file":
        write_file(tmp_path / "other.h5", result_of(seed=1)).replace(path)
    else:
        path.unlink()
    with pytest.raises(InputError, match="not a readable" if change == "no file" else "changed"), checked.open():
        pass
