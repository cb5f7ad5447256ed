"""What ranks tell each other about slides survives the wire, and nothing else passes for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.base.types import prediction_dtype
from pyramidai_mpi.run.pool.messages import (
    Kind,
    Passport,
    Verdict,
    decode,
    decode_features,
    encode,
    encode_features,
    records,
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
)
MASK = np.random.default_rng(0).random((7, 11)) < 0.5
PASSPORT = Passport(INFO, "ab" * 32, 0.25, "n1", MASK)
SENT = PASSPORT.to_bytes()


def test_a_passport_arrives_as_it_was_sent():
    arrived = Passport.from_bytes(SENT)
    assert arrived.info == INFO
    assert (arrived.quickhash, arrived.mpp, arrived.host) == (PASSPORT.quickhash, 0.25, "n1")
    assert (arrived.mask == MASK).all()


@pytest.mark.parametrize(
    "account",
    [None, SlideAccount((5, 4, 1), 2, 1, 0.5, None, "ab" * 32, "cd" * 32)],
    ids=["of a slide that failed", "with an account"],
)
def test_a_verdict_arrives_as_it_was_sent(account):
    sent = Verdict(3, "a\nslide \udcff: 5 tiles", account, account is not None)
    assert Verdict.from_bytes(sent.to_bytes()) == sent


@pytest.mark.parametrize("end", [0, 3, 4, 20, len(SENT) - 20, len(SENT) - 1])
def test_a_passport_that_was_cut_is_refused(end):
    with pytest.raises(InternalError):
        Passport.from_bytes(SENT[:end])


@given(place=st.integers(0, len(SENT) - 1), new=st.binary(min_size=1, max_size=4))
def test_a_passport_with_other_bytes_is_a_passport_or_refused(place, new):
    changed = SENT[:place] + new + SENT[place + len(new) :]
    try:
        arrived = Passport.from_bytes(changed)
    except InternalError:
        return
    assert isinstance(arrived.info, SlideInfo)
    assert arrived.mask.dtype == bool


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(data):
    for read in (decode, Passport.from_bytes, Verdict.from_bytes, lambda d: decode_features(d, [0, 3])):
        try:
            read(data)
        except InternalError:
            continue


@pytest.mark.parametrize("kind", Kind)
def test_a_message_arrives_as_it_was_sent(kind):
    assert decode(encode(kind, 70_000, b"payload")) == (kind, 70_000, b"payload")


def test_features_and_records_of_a_wrong_length_are_refused():
    rows = np.ones((5, 3), np.float32)
    assert (decode_features(encode_features(1, rows), [0, 3])[1] == rows).all()
    for wrong in (encode_features(1, rows)[:-1], encode_features(0, rows), encode_features(2, rows), b"", b"\1\0\0"):
        with pytest.raises(InternalError):
            decode_features(wrong, [0, 3])
    dtype = prediction_dtype(2)
    with pytest.raises(InternalError):
        records(bytes(dtype.itemsize * 3 - 1), dtype)
