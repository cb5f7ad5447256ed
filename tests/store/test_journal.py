"""A journal holds what was appended, up to a torn end; damage before that is refused, whatever bit it is."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.base.errors import InputError, OutputExistsError, StorageError
from pyramidai_mpi.base.types import KEPT_BYTES, TILE_DTYPE, Decision, prediction_dtype
from pyramidai_mpi.store.journal import writer as journal
from pyramidai_mpi.store.journal.format import HEAD, MAGIC, RecordFormat
from pyramidai_mpi.store.journal.reader import SlideFrames, scan_file
from pyramidai_mpi.store.journal.writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FORMAT = RecordFormat(prediction_dtype(2), FAILED_DTYPE, (0, 3, 5))
TAG = 0xFEDC_BA98_7654_3210

Found = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""What is read back of a batch: records, unreadable tiles, features."""


def batch(number: int) -> Found:
    """Some tiles of one level, one of them unreadable in every second batch; with features where the level has any."""
    rng = np.random.default_rng(number)
    level, n = number % 3, 1 + number % 4
    predictions = np.zeros(n, FORMAT.record)
    predictions["level"] = level
    predictions["col"], predictions["row"] = rng.integers(0, 1000, (2, n))
    predictions["probability"] = rng.random((n, 2), np.float32)
    predictions["decision"] = rng.integers(0, 2, n)
    failed = np.zeros(number % 2, FORMAT.failed)
    if len(failed):
        predictions["decision"][-1], predictions["probability"][-1] = Decision.UNREADABLE, np.nan
        for name in ("level", "col", "row"):
            failed[name] = predictions[name][-1]
        failed["reason"] = f"reason {number}".encode()
    width = FORMAT.widths[level]
    return predictions, failed, rng.random((n, width), np.float32) if width else None


def write(path: Path, n_batches: int, record_format: RecordFormat = FORMAT) -> Path:
    writer = JournalWriter(path, record_format)
    for number in range(n_batches):
        writer.append(TAG, *batch(number))
    writer.close()
    return path


def batches_in(path: Path, tag: int = TAG, record_format: RecordFormat = FORMAT) -> list[Found]:
    """All batches of a slide in a file."""
    frames = scan_file(path, 0, record_format)
    slide = SlideFrames([path], frames[frames["slide"] == tag], record_format)
    records = slide.records()
    found = [one[:3] for one in slide.batches(np.ones(len(records), bool))]
    assert records.tobytes() == b"".join(one.tobytes() for one, _, _ in found)
    return found


def assert_are(found: list[Found], numbers: Iterable[int]) -> None:
    """What was found are the batches of these numbers, to the last bit."""
    for (records, failed, features), number in zip(found, numbers, strict=True):
        own_records, own_failed, own_features = batch(number)
        assert records.tobytes() == own_records.tobytes()
        assert failed.tobytes() == own_failed.tobytes()
        assert (features is None) == (own_features is None)
        if features is not None:
            np.testing.assert_array_equal(features, own_features)


def assert_begins(found: list[Found]) -> None:
    """What was found are the first batches, to the last bit."""
    assert_are(found, range(len(found)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("journal") / "a.tiles", 12).read_bytes()


def read_bytes(folder: Path, data: bytes) -> list[Found]:
    path = folder / "a.tiles"
    path.write_bytes(data)
    return batches_in(path)


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tiles", 9)
    found = batches_in(path)
    assert len(found) == 9
    assert_begins(found)


def test_slides_that_share_files_get_each_their_own_in_the_order_of_the_files(tmp_path: Path) -> None:
    paths = [tmp_path / "a.tiles", tmp_path / "b.tiles"]
    of_slide: dict[int, list[int]] = {TAG: [], 0: [], TAG + 1: []}
    for path, numbers in zip(paths, (range(7), range(7, 13)), strict=True):
        writer = JournalWriter(path, FORMAT)
        for number in numbers:
            tag = list(of_slide)[number * 5 % 3]
            writer.append(tag, *batch(number))
            of_slide[tag].append(number)
        writer.close()
    frames = np.concatenate([scan_file(path, number, FORMAT) for number, path in enumerate(paths)])
    assert len(frames) == 13
    for tag, numbers in of_slide.items():
        slide = SlideFrames(paths, frames[frames["slide"] == tag], FORMAT)
        assert slide.records().tobytes() == b"".join(batch(number)[0].tobytes() for number in numbers)
        assert_are([one[:3] for one in slide.batches(np.ones(len(slide.records()), bool))], numbers)


def test_only_the_tiles_that_count_are_given_back_with_their_reasons_and_features(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tiles", 12)
    slide = SlideFrames([path], scan_file(path, 0, FORMAT), FORMAT)
    kept = np.random.default_rng(3).random(len(slide.records())) < 0.5
    start = 0
    for number, (records, failed, features, _) in enumerate(slide.batches(kept)):
        own_records, own_failed, own_features = batch(number)
        counts = kept[start : start + len(own_records)]
        start += len(counts)
        assert records.tobytes() == own_records[counts].tobytes()
        assert failed.tobytes() == (own_failed.tobytes() if len(own_failed) and counts[-1] else b"")
        if own_features is not None:
            np.testing.assert_array_equal(features, own_features[counts])
    assert start == len(kept)


def test_bytes_that_are_kept_of_tiles_come_back_with_those_that_count(tmp_path: Path) -> None:
    record = np.dtype([*TILE_DTYPE.descr, (KEPT_BYTES, "<u4")])
    record_format = RecordFormat(record, FAILED_DTYPE, (0, 2))
    rng = np.random.default_rng(1)
    path = tmp_path / "a.tiles"
    writer = JournalWriter(path, record_format)
    written = []
    for number in range(8):
        records = np.zeros(1 + number % 3, record)
        records["level"], records["col"] = number % 2, np.arange(len(records)) + 10 * number
        records[KEPT_BYTES] = rng.integers(0, 5000, len(records)) * (rng.random(len(records)) < 0.7)
        pieces = [rng.bytes(length) for length in records[KEPT_BYTES].tolist()]
        features = rng.random((len(records), 2), np.float32) if number % 2 else None
        writer.append(TAG, records, np.zeros(0, FAILED_DTYPE), features, b"".join(pieces))
        written += list(zip(records.tolist(), pieces, strict=True))
    with pytest.raises(AssertionError):
        writer.append(TAG, records, np.zeros(0, FAILED_DTYPE), features, b"".join(pieces) + b"x")
    writer.close()
    slide = SlideFrames([path], scan_file(path, 0, record_format), record_format)
    assert slide.records().tolist() == [one for one, _ in written]
    counts = rng.random(len(written)) < 0.6
    found = list(slide.batches(counts))
    assert np.concatenate([records for records, *_ in found]).tolist() == [
        one for (one, _), kept in zip(written, counts, strict=True) if kept
    ]
    wanted = b"".join(piece for (_, piece), kept in zip(written, counts, strict=True) if kept)
    assert len(wanted) > 5000
    assert b"".join(kept for *_, kept in found) == wanted


def test_a_file_whose_records_look_otherwise_is_of_other_runs_and_gives_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tiles", 3)
    assert len(scan_file(path, 0, RecordFormat(FORMAT.record, FORMAT.failed, (0, 3, 6)))) == 0


def test_a_file_of_an_older_format_says_how_to_finish_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tiles"
    path.write_bytes(HEAD.pack(MAGIC, 1, 300) + bytes(400))
    with pytest.raises(InputError, match=r"a\.tiles: journal of format 1, which an older version .* finish with that"):
        scan_file(path, 0, FORMAT)


def test_every_batch_is_in_the_file_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "a.tiles", FORMAT)
    for number in range(5):
        writer.append(TAG, *batch(number))
        assert len(batches_in(tmp_path / "a.tiles")) == number + 1
    writer.close()


def test_a_rank_without_tiles_makes_no_file(tmp_path: Path) -> None:
    write(tmp_path / "a.tiles", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_results_that_was_renamed_away_is_no_other_run(tmp_path: Path) -> None:
    journal = tmp_path / "results" / "out.h5.journal"
    journal.mkdir(parents=True)
    writer = JournalWriter(journal / "a.tiles", FORMAT)
    away = journal.parent.rename(tmp_path / "away")
    with pytest.raises(StorageError, match="cannot write the journal: No such file or directory"):
        writer.append(TAG, *batch(0))
    away.rename(journal.parent)
    journal.rmdir()
    with pytest.raises(OutputExistsError, match="another run has taken the place"):
        writer.append(TAG, *batch(0))


def test_no_file_is_ever_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tiles", 2)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="exists"):
        JournalWriter(path, FORMAT).append(TAG, *batch(0))
    assert path.read_bytes() == before


def test_cut_anywhere_it_gives_the_batches_that_are_whole(tmp_path: Path, whole: bytes) -> None:
    lengths = [len(read_bytes(tmp_path, whole[:length])) for length in [*range(0, len(whole), 3), len(whole)]]
    assert lengths[0] == 0
    assert lengths[-1] == 12
    assert set(lengths) == set(range(13))
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("rest", [b"\0" * 50, b"\xff" * 3, b"PJF2" * 20], ids=["zeros", "ones", "marks"])
def test_rubbish_after_the_last_batch_is_a_torn_end(tmp_path: Path, whole: bytes, rest: bytes) -> None:
    found = read_bytes(tmp_path, whole + rest)
    assert len(found) == 12
    assert_begins(found)


def test_2000_single_bit_flips_are_refused_or_without_effect(tmp_path: Path, whole: bytes) -> None:
    rng = np.random.default_rng(6)
    refused = shortened = 0
    for place in rng.choice(8 * len(whole), 2000, replace=False).tolist():
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        try:
            found = read_bytes(tmp_path, bytes(damaged))
        except InputError as error:
            assert "a.tiles" in str(error)
            refused += 1
        else:
            # a damaged last batch looks torn; it is left out, and its tiles are analysed again
            assert len(found) == 11
            assert_begins(found)
            shortened += 1
    assert refused + shortened == 2000
    last = len(whole) - len(write(tmp_path / "shorter.tiles", 11).read_bytes())
    assert shortened / 2000 < 1.5 * last / len(whole)


@pytest.mark.parametrize(
    "rearranged",
    [
        pytest.param(lambda head, frames: [head, *frames[:3], *frames[4:]], id="one is missing"),
        pytest.param(lambda head, frames: [head, *frames[:3], frames[2], *frames[3:]], id="one is there twice"),
        pytest.param(lambda head, frames: [head, frames[1], frames[0], *frames[2:]], id="two have changed places"),
        pytest.param(lambda head, frames: [*frames], id="the head is missing"),
    ],
)
def test_batches_that_are_not_in_their_order_are_refused(tmp_path: Path, rearranged) -> None:
    ends = [len(write(tmp_path / f"{n}.tiles", n).read_bytes()) for n in range(1, 7)]
    data = (tmp_path / "6.tiles").read_bytes()
    head_bytes = 24 + len(FORMAT.to_bytes()) + 8
    frames = [data[start:end] for start, end in zip([head_bytes, *ends], ends, strict=False)]
    with pytest.raises(InputError, match=r"a\.tiles"):
        read_bytes(tmp_path, b"".join(rearranged(data[:head_bytes], frames)))


def test_batches_of_another_file_do_not_pass(tmp_path: Path, whole: bytes) -> None:
    other = write(tmp_path / "other.tiles", 12).read_bytes()  # the same but for its name
    assert len(other) == len(whole)
    half = len(whole) // 2
    with pytest.raises(InputError):
        read_bytes(tmp_path, whole[:half] + other[half:] + whole[half:])
    with pytest.raises(InputError, match="damaged"):
        read_bytes(tmp_path, other)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    with contextlib.suppress(InputError):
        assert read_bytes(tmp_path, data) == []


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_with_pieces_cut_pasted_and_overwritten_gives_true_batches_or_is_refused(
    tmp_path: Path, whole: bytes, data: st.DataObject
) -> None:
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(start, min(len(changed), start + 300)))
        changed[start:end] = data.draw(st.one_of(st.binary(max_size=100), st.just(whole[: end - start])))
    try:
        found = read_bytes(tmp_path, bytes(changed))
    except InputError:
        return
    assert_begins(found)


def test_a_full_disk_is_an_error_that_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path / "a.tiles", FORMAT)
    writer.append(TAG, *batch(0))
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, bytes(data[: len(data) - 10]))  # there was room for nearly all

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match=r"a\.tiles.*No space left.*--resume") as caught:
        writer.append(TAG, *batch(1))
    assert caught.value.exit_code == 74
    monkeypatch.undo()
    writer.close()
    found = batches_in(tmp_path / "a.tiles")
    assert len(found) == 1
    assert_begins(found)


def test_a_disk_that_is_full_from_the_first_byte_on_leaves_nothing_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = JournalWriter(tmp_path / "a.tiles", FORMAT)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="No space left"):
            writer.append(TAG, *batch(0))
    writer.close()
    assert batches_in(tmp_path / "a.tiles") == []


def test_it_is_flushed_by_time_and_a_failing_disk_is_heard_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert journal.SYNC_PERIOD_S <= 4.5
    monkeypatch.setattr(journal, "SYNC_PERIOD_S", 0.01)
    flushed = []

    def fsync(descriptor: int) -> None:
        flushed.append(descriptor)
        if len(flushed) > 3:  # the file's, once the folder's, then the file's again
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    writer = JournalWriter(tmp_path / "a.tiles", FORMAT)
    with pytest.raises(StorageError, match="Input/output error"):
        for number in range(1000):
            writer.append(TAG, *batch(number))
            time.sleep(0.01)
    with pytest.raises(StorageError, match="Input/output error"):
        writer.close()


def test_what_was_not_flushed_in_time_is_flushed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    writer = JournalWriter(tmp_path / "a.tiles", FORMAT)
    writer.append(TAG, *batch(0))
    monkeypatch.setattr(os, "fsync", fsync)
    writer.append(TAG, *batch(1))
    with pytest.raises(StorageError, match="Input/output error"):
        writer.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name of a file, in a folder of its own."""
    (tmp_path / "journal").mkdir()
    return tmp_path / "journal" / "0001-00000000-00003.tiles"


@pytest.mark.parametrize("begun", [False, True])
def test_a_shared_file_that_another_run_has_removed_is_made_anew(path: Path, begun: bool) -> None:
    writer = JournalWriter(path, FORMAT, is_shared=True)
    if begun:
        writer.append(TAG, *batch(0))
        path.unlink()
    path.parent.rmdir()
    for number in (1, 2):
        writer.append(TAG, *batch(number))
    writer.close()
    found = batches_in(path)
    assert len(found) == 2
    assert_are(found, (1, 2))


@pytest.mark.parametrize("begun", [False, True])
def test_a_slides_own_file_that_another_run_has_removed_ends_this_one_and_is_not_made_again(
    path: Path, begun: bool
) -> None:
    writer = JournalWriter(path, FORMAT)
    if begun:
        writer.append(TAG, *batch(0))
        path.unlink()
    path.parent.rmdir()
    with pytest.raises(OutputExistsError, match="another run has taken the place of this one"):
        writer.append(TAG, *batch(1))
    writer.close()
    assert not path.parent.exists()


def test_one_that_is_removed_while_nothing_is_appended_is_no_failure(path: Path) -> None:
    writer = JournalWriter(path, FORMAT)
    writer.append(TAG, *batch(0))
    path.unlink()
    path.parent.rmdir()
    writer.close()
