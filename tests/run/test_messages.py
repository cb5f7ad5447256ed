"""What ranks tell each other about slides survives the wire, and nothing else passes for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.analyses.base import FAILED_DTYPE, Seconds
from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.base.types import KEPT_BYTES, TILE_DTYPE, prediction_dtype
from pyramidai_mpi.pyramid.cells import CellMarks
from pyramidai_mpi.run.pool.messages import (
    Batch,
    Kind,
    SlideDescription,
    SlideEnd,
    decode,
    decode_batches,
    encode,
    encode_batch,
    records,
    tagged,
    untagged,
)
from pyramidai_mpi.slides.readers.base import SlideInfo
from pyramidai_mpi.store.results.summary import SlideAccount

INFO = SlideInfo(
    path=Path("folder/a\nslide \udcff.svs"),
    vendor="aperio",
    l0_size=(1001, 701),
    stored_sizes=((1001, 701), (500, 350)),
    stored_downsamples=(1.0, 2.0),
    stored_exact=(True, False),
    mpp=0.25,
    l0_bounds=(3, 4),
    openslide_quickhash1="cd" * 32,
    odd_levels="own",
)
MASK = np.random.default_rng(0).random((7, 11)) < 0.5
DESCRIPTION = SlideDescription(INFO, "ab" * 32, 0.25, "n1", MASK)
SENT = DESCRIPTION.to_bytes()


def test_a_description_arrives_as_it_was_sent():
    arrived = SlideDescription.from_bytes(SENT)
    assert arrived.info == INFO
    assert (arrived.quickhash, arrived.mpp, arrived.host) == (DESCRIPTION.quickhash, 0.25, "n1")
    assert (arrived.mask == MASK).all()


def test_a_description_takes_marks_of_cells_along():
    marks = CellMarks(label=np.arange(12, dtype=np.int8).reshape(3, 4))
    sent = replace(DESCRIPTION, marks=marks).to_bytes()
    arrived = SlideDescription.from_bytes(sent)
    assert arrived.marks.tumor is None
    np.testing.assert_array_equal(arrived.marks.label, marks.label)
    np.testing.assert_array_equal(arrived.mask, MASK)
    with pytest.raises(InternalError):
        SlideDescription.from_bytes(sent[:-3])


@pytest.mark.parametrize(
    "account",
    [None, SlideAccount((5, 4, 1), 2, 1, 0.5, None, "ab" * 32, "cd" * 32, 12.5, 0.25)],
    ids=["of a slide that failed", "with an account"],
)
def test_an_end_arrives_as_it_was_sent(account):
    sent = SlideEnd(3, "a\nslide \udcff: 5 tiles", account, account is not None)
    assert SlideEnd.from_bytes(sent.to_bytes()) == sent


@pytest.mark.parametrize("end", [0, 3, 4, 20, len(SENT) - 20, len(SENT) - 1])
def test_a_description_that_was_cut_is_refused(end):
    with pytest.raises(InternalError):
        SlideDescription.from_bytes(SENT[:end])


@given(place=st.integers(0, len(SENT) - 1), new=st.binary(min_size=1, max_size=4))
def test_a_description_with_other_bytes_is_a_description_or_refused(place, new):
    changed = SENT[:place] + new + SENT[place + len(new) :]
    try:
        arrived = SlideDescription.from_bytes(changed)
    except InternalError:
        return
    assert isinstance(arrived.info, SlideInfo)
    assert arrived.mask.dtype == bool


RECORD = prediction_dtype(2)
WIDTHS = (0, 3)


def batches_in(payload: bytes) -> list[Batch]:
    return list(decode_batches(payload, RECORD, FAILED_DTYPE, WIDTHS))


def batch(level: int, n_tiles: int, n_failed: int, *, width: int = 0) -> Batch:
    rng = np.random.default_rng(n_tiles)
    tiles = np.zeros(n_tiles, RECORD)
    tiles["level"], tiles["col"] = level, np.arange(n_tiles)
    tiles["probability"] = rng.random((n_tiles, 2), np.float32)
    failed = np.zeros(n_failed, FAILED_DTYPE)
    failed["level"], failed["reason"] = level, b"why"
    features = rng.random((n_tiles, width), np.float32) if width else None
    return Batch(tiles, failed, features, 1.5, 2.5, 0.25, Seconds(0.5, 0.25, 0.125))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(data):
    for read in (decode, SlideDescription.from_bytes, SlideEnd.from_bytes, batches_in):
        try:
            read(data)
        except InternalError:
            continue


@pytest.mark.parametrize("kind", Kind)
def test_a_message_arrives_as_it_was_sent(kind):
    assert decode(encode(kind, 70_000, b"payload")) == (kind, 70_000, b"payload")


def test_a_tag_arrives_with_what_it_marks():
    assert untagged(tagged((1 << 64) - 2, b"payload")) == ((1 << 64) - 2, b"payload")


def test_batches_of_one_message_arrive_as_they_were_sent():
    sent = [batch(1, 5, 2, width=3), batch(0, 1, 1), batch(1, 4, 0), batch(0, 7, 0)]
    arrived = batches_in(b"".join(encode_batch(one) for one in sent))
    assert len(arrived) == len(sent)
    for one, other in zip(sent, arrived, strict=True):
        assert one.records.tobytes() == other.records.tobytes()
        assert one.failed.tobytes() == other.failed.tobytes()
        assert (one.features is None) == (other.features is None)
        if one.features is not None:
            np.testing.assert_array_equal(one.features, other.features)
        assert (one.start_s, one.end_s, one.journal_s, one.seconds) == (
            other.start_s,
            other.end_s,
            other.journal_s,
            other.seconds,
        )
    assert batches_in(b"") == []


def test_batches_of_a_wrong_length_or_form_are_refused():
    whole = encode_batch(batch(1, 5, 1, width=3))
    wrong_widths = [batch(0, 5, 0, width=3), batch(1, 5, 0, width=2), batch(2, 5, 0, width=3)]
    for wrong in (whole[:-1], whole + b"\0", *map(encode_batch, [*wrong_widths, batch(1, 0, 0)])):
        with pytest.raises(InternalError):
            batches_in(wrong)


def test_bytes_that_are_kept_of_tiles_arrive_with_them():
    record = np.dtype([*TILE_DTYPE.descr, (KEPT_BYTES, "<u4")])
    sent = []
    for pieces in ((b"abc", b"", b"defgh"), (b"",), (b"x" * 1000, b"y")):
        tiles = np.zeros(len(pieces), record)
        tiles[KEPT_BYTES] = [len(piece) for piece in pieces]
        sent.append(Batch(tiles, np.zeros(0, FAILED_DTYPE), kept=b"".join(pieces)))
    payload = b"".join(map(encode_batch, sent))
    arrived = list(decode_batches(payload, record, FAILED_DTYPE, (0,)))
    assert [one.kept for one in arrived] == [b"abcdefgh", b"", b"x" * 1000 + b"y"]
    assert [one.records.tobytes() for one in arrived] == [one.records.tobytes() for one in sent]
    for wrong in (payload[:-1], payload + b"\0"):
        with pytest.raises(InternalError):
            list(decode_batches(wrong, record, FAILED_DTYPE, (0,)))


def test_records_of_a_wrong_length_are_refused():
    assert (records(bytes(RECORD.itemsize * 3), RECORD) == np.zeros(3, RECORD)).all()
    with pytest.raises(InternalError):
        records(bytes(RECORD.itemsize * 3 - 1), RECORD)
