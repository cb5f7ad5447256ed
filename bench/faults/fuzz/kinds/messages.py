"""Messages between ranks: the scheduler's, those about slides, and what travels within them."""

from __future__ import annotations

import struct
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.faults.fuzz.documents import mutate_json
from bench.faults.fuzz.target import Target
from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.base.types import KEPT_BYTES, TILE_DTYPE, prediction_dtype
from pyramidai_mpi.models.stain.map import StainMap
from pyramidai_mpi.pyramid.cells import CellMarks
from pyramidai_mpi.run.pool import messages
from pyramidai_mpi.run.pool.mailbox import Mailbox
from pyramidai_mpi.run.pool.messages import Batch, Kind, SlideDescription, SlideEnd
from pyramidai_mpi.run.pool.witness import Witness, order_bytes, order_from_bytes
from pyramidai_mpi.sched import messages as sched
from pyramidai_mpi.sched.sealing import sealed, unsealed
from pyramidai_mpi.slides.readers.base import SlideInfo
from pyramidai_mpi.store.results.summary import SlideAccount

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

_RECORD = prediction_dtype(2)
_WITH_PICTURES = np.dtype([*_RECORD.descr, (KEPT_BYTES, "<u4")])
_WIDTHS = (0, 3, 5)
_ANALYSIS: Any = SimpleNamespace(task=TILE_DTYPE, record=_RECORD)
_SCHEDULER, _SLIDES, _AS_SENT, _PICTURES = 0, 1, 2, 3


class _Line:
    """A transport on which one message waits."""

    rank = 0

    def __init__(self, message: bytes) -> None:
        self._waiting = deque([(1, bytearray(message))])

    def receive(self) -> tuple[int, bytearray] | None:
        return self._waiting.popleft() if self._waiting else None

    def all_sent(self) -> bool:
        return True


def _read(data: bytes, _: Path) -> None:
    """The first byte says whose the message is; the rest gets the checksum that fits, but for `_AS_SENT`."""
    whose, content = data[:1] or b"\0", data[1:]
    which = whose[0] % 4
    message = bytes(unsealed(bytearray(content if which == _AS_SENT else sealed(content)), 1))
    if which == _SCHEDULER:
        sched.encode(sched.decode(message, TILE_DTYPE))
        return
    record = _WITH_PICTURES if which == _PICTURES else _RECORD
    Mailbox(_Line(message), _receive(record), lambda slide: 0).exchange()  # type: ignore[arg-type]


def _receive(record: np.dtype[np.void]) -> Callable[[int, Kind, int, bytes], None]:
    """What owners and workers make of a message."""

    def receive(_source: int, kind: Kind, _slide: int, payload: bytes) -> None:
        match kind:
            case Kind.OPENED:
                SlideDescription.from_bytes(payload).to_bytes()
            case Kind.RECORDS:
                for _ in messages.decode_batches(payload, record, FAILED_DTYPE, _WIDTHS):
                    pass
            case Kind.REFUSED | Kind.DONE:
                SlideEnd.from_bytes(payload).to_bytes()
            case Kind.WITNESS | Kind.AUDITED:
                Witness.from_bytes(payload, _ANALYSIS)
            case Kind.AUDIT:
                order_from_bytes(payload, TILE_DTYPE)

    return receive


def _seeds(folder: Path) -> dict[str, bytes]:
    tasks = np.zeros(3, TILE_DTYPE)
    tasks["level"], tasks["col"] = 1, [0, 1, 2]
    records = np.zeros(3, _RECORD)
    records["level"], records["probability"] = 1, 0.5
    with_pictures = np.zeros(3, _WITH_PICTURES)
    with_pictures["level"], with_pictures[KEPT_BYTES] = 0, 2
    crcs = np.arange(3, dtype=np.uint32)
    info = SlideInfo(
        path=folder / "a.tif", vendor="generic-tiff", l0_size=(64, 48), stored_sizes=((64, 48), (32, 24)),
        stored_downsamples=(1.0, 2.0), stored_exact=(True, True), mpp=0.25,
        l0_bounds=(0, 0),
    )  # fmt: skip
    described = SlideDescription(
        info, "ab" * 32, 0.25, "host", np.eye(3, 4, dtype=bool),
        StainMap(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0,
        1.0)),
                 (0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 0.0),
        marks=CellMarks(tumor=np.ones((2, 3), np.float32), label=np.zeros((2, 3), np.int8)),
    ).to_bytes()  # fmt: skip
    account = SlideAccount((4, 1), 1, 0, 1.5, None, "d", "q", 0.1, 0.05, prediction=(0.5, 0.5))
    batch = messages.encode_batch(Batch(records, np.zeros(1, FAILED_DTYPE), np.ones((3, 3), np.float32)))
    pictures = messages.encode_batch(Batch(with_pictures, np.zeros(0, FAILED_DTYPE), kept=b"abcdef"))
    of_slides = {
        "opened": messages.encode(Kind.OPENED, 1, described),
        "description": messages.encode(Kind.DESCRIPTION, 1, messages.tagged(7, described)),
        "begin": messages.encode(Kind.BEGIN, 1, messages.tagged(7, tasks.tobytes())),
        "records": messages.encode(Kind.RECORDS, 1, batch + batch),
        "ended": messages.encode(Kind.ENDED, 1),
        "refused": messages.encode(Kind.REFUSED, 1, SlideEnd(65, "a.tif: no slide").to_bytes()),
        "done": messages.encode(Kind.DONE, 1, SlideEnd(0, "", account).to_bytes()),
        "witness": messages.encode(Kind.WITNESS, 1, Witness(tasks, records, crcs, crcs).to_bytes(5)),
        "audit": messages.encode(Kind.AUDIT, 1, order_bytes(5, 1, tasks)),
    }
    counts = sched.Counts(5, 4, 1, 0, 0, (1, 2, 3))
    of_scheduler = {
        "request": sched.StealRequest(3), "reply": sched.StealReply(3, tasks), "lifeline": sched.Lifeline(True),
        "push": sched.Push(tasks), "ask": sched.CensusAsk(2, False), "answer": sched.CensusAnswer(2, counts),
        "idle": sched.RankIsIdle(), "stop": sched.StopAsked(), "finished": sched.Finished(True),
    }  # fmt: skip
    seeds = {name: bytes([_SLIDES]) + message for name, message in of_slides.items()}
    seeds |= {name: bytes([_SCHEDULER]) + sched.encode(message) for name, message in of_scheduler.items()}
    seeds["pictures"] = bytes([_PICTURES]) + messages.encode(Kind.RECORDS, 1, pictures)
    seeds["as-sent"] = bytes([_AS_SENT]) + sealed(of_slides["begin"])
    return seeds


def _mutate(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    """The JSON within a description or an end changed, a count, or any bytes behind the head."""
    if len(data) < 9:
        return blind(data)
    kind = struct.unpack_from("<I", data, 1)[0]
    head, payload = data[:9], data[9:]
    at = 8 if kind == Kind.DESCRIPTION else 0
    if kind in {Kind.OPENED, Kind.DESCRIPTION} and data[0] % 4 and chance.random() < 0.7 and len(payload) > at + 4:
        end = at + 4 + int.from_bytes(payload[at : at + 4], "little")
        facts = mutate_json(payload[at + 4 : end], chance, blind)
        return head + payload[:at] + struct.pack("<I", len(facts)) + facts + payload[end:]
    if kind == Kind.DONE and data[0] % 4 and chance.random() < 0.7 and len(payload) > 12:
        end = 12 + int.from_bytes(payload[8:12], "little")
        return head + payload[:end] + mutate_json(payload[end:], chance, blind)
    if chance.random() < 0.3:
        return data[:1] + struct.pack("<I", chance.randrange(12)) + data[5:]
    if len(payload) >= 4 and chance.random() < 0.5:
        place = 4 * chance.randrange(len(payload) // 4)
        number = chance.choice([0, 1, 2, 3, 255, 2**31 - 1, 2**31, 2**32 - 1])
        return head + payload[:place] + struct.pack("<I", number) + payload[place + 4 :]
    return head + blind(payload)


MESSAGES = Target(
    _read,
    _seeds,
    _mutate,
    words=(b'"info":', b'"stain":', b'"marks":', b'"files":', b"null", b"NaN", b"1e999", b"[]", b"{}"),
    refusals=frozenset({ExitCode.INTERNAL, ExitCode.IO}),  # no user's fault
)
