"""Journals: files of frames, and the manifest beside them."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from bench.faults.fuzz.documents import mutate_json
from bench.faults.fuzz.target import Target
from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.base.types import KEPT_BYTES, prediction_dtype
from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.pyramid.resumption import find_frontier
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap
from pyramidai_mpi.store.journal.format import (
    CHECK_BYTES,
    FRAME,
    HEAD,
    MARK,
    RecordFormat,
    check_of,
    file_head,
    frame_of,
)
from pyramidai_mpi.store.journal.manifest import Manifest, read_manifest
from pyramidai_mpi.store.journal.reader import SlideFrames, scan_file
from pyramidai_mpi.store.journal.writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

_NAME = "rank-0.pjf"
_TAG = 0xFEDC_BA98_7654_3210
_PLAIN = RecordFormat(prediction_dtype(2), FAILED_DTYPE, (0, 3, 5))
_WITH_PICTURES = RecordFormat(np.dtype([*prediction_dtype(2).descr, (KEPT_BYTES, "<u4")]), FAILED_DTYPE, (0, 3, 5))
_FORMATS = (_PLAIN, _WITH_PICTURES)
_GRID = Grid.of_tiles(1024, 768, 64, 2, 3, 1.0)


def _read_journal(data: bytes, folder: Path) -> None:
    """Whatever frames the input has get checks that fit, unless its first byte is odd."""
    options, content = data[:1] or b"\0", data[1:]
    path = folder / _NAME
    path.write_bytes(content if options[0] & 1 else _sealed(content))
    for record_format in _FORMATS:
        frames = scan_file(path, 0, record_format)
        of_slide = SlideFrames([path], frames, record_format)
        records = of_slide.records()
        kept = np.arange(len(records)) % 3 != 1
        for _ in of_slide.batches(kept):
            pass
        if record_format is _PLAIN:
            rule = TileRule(TissueMap(_GRID, np.ones((24, 32), bool), 2), 0.05)
            find_frontier(records, rule.roots(), rule.children)


def _sealed(content: bytes) -> bytes:
    """A journal whose head and frames have the checks that their bytes give."""
    if len(content) < HEAD.size:
        return content
    magic, version, length = HEAD.unpack_from(content)
    description = content[HEAD.size : HEAD.size + min(length, 1 << 16)]
    head, key = file_head(description, _NAME)
    head = HEAD.pack(magic, version, length) + head[HEAD.size :]
    at = HEAD.size + len(description) + CHECK_BYTES
    pieces = [head]
    while at + FRAME.size <= len(content):
        fields = FRAME.unpack_from(content, at)
        n_payload = min(fields[5], max(len(content) - at - FRAME.size - CHECK_BYTES, 0))
        start = struct.pack("<4sIQIII", MARK, *fields[1:5], n_payload)
        body = start + struct.pack("<I", zlib.crc32(start)) + content[at + FRAME.size : at + FRAME.size + n_payload]
        pieces.append(body + check_of(body, key))
        at += len(body) + CHECK_BYTES
    return b"".join(pieces)


def _mutate_journal(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    """A field of a frame's head changed, a record, or the order of frames."""
    if len(data) < 1 + HEAD.size:
        return blind(data)
    options, content = data[:1], data[1:]
    length = HEAD.unpack_from(content)[2]
    start = HEAD.size + length + CHECK_BYTES
    frames, at = [], start
    while at + FRAME.size + CHECK_BYTES <= len(content):
        end = at + FRAME.size + FRAME.unpack_from(content, at)[5] + CHECK_BYTES
        frames.append(content[at:end])
        at = end
    if not frames:
        return blind(data)
    n = chance.randrange(len(frames))
    fields, payload = list(FRAME.unpack_from(frames[n])), frames[n][FRAME.size : -CHECK_BYTES]
    kind = chance.randrange(5)
    if kind == 0:
        which = chance.choice([1, 2, 3, 4])
        fields[which] = chance.choice([0, 1, fields[which] + 1, max(fields[which] - 1, 0), 2**32 - 1, 2**31])
    elif kind == 1:
        payload = blind(payload)
    elif kind == 2 and payload:
        place = chance.randrange(len(payload))
        payload = payload[:place] + bytes([chance.choice([0, 1, 2, 3, 255])]) + payload[place + 1 :]
    elif kind == 3:
        frames.insert(chance.randrange(len(frames) + 1), frames[n])
    else:
        payload = payload[: chance.randrange(len(payload) + 1)]
    slide = fields[2] % 2**64
    frames[n] = frame_of(fields[1] % 2**32, slide, fields[3] % 2**32, fields[4] % 2**32, payload, b"k")
    for number, frame in enumerate(frames if chance.random() < 0.8 else ()):
        frames[number] = frame[:4] + struct.pack("<I", number) + frame[8:]
    return bytes(options) + content[:start] + b"".join(frames)


def _journal_seeds(folder: Path) -> dict[str, bytes]:
    seeds = {}
    for name, record_format in zip(("plain", "pictures"), _FORMATS, strict=True):
        path = folder / name / _NAME
        path.parent.mkdir()
        writer = JournalWriter(path, record_format)
        for number in range(3):
            rng = np.random.default_rng(number)
            level, n = 2 - number, 1 + number
            records = np.zeros(n, record_format.record)
            records["level"], records["col"], records["decision"] = level, np.arange(n), number % 2
            records["probability"] = rng.random((n, 2), np.float32)
            failed = np.zeros(number % 2, FAILED_DTYPE)
            if len(failed):
                failed["level"], failed["reason"] = level, b"unreadable"
                records["decision"][0], records["probability"][0] = 2, np.nan
            width = record_format.widths[level]
            kept = b""
            if record_format is _WITH_PICTURES:
                records[KEPT_BYTES] = 2
                kept = b"ab" * n
            writer.append(_TAG, records, failed, rng.random((n, width), np.float32) if width else None, kept)
        writer.close()
        seeds[name] = b"\0" + path.read_bytes()
        seeds[f"{name}-torn"] = b"\1" + path.read_bytes()[:-5]
    return seeds


def _read_manifest(data: bytes, folder: Path) -> None:
    """A document gets the check that fits, unless the input has one of its own in a second line."""
    path = folder / "manifest"
    path.write_bytes(data if b"\n" in data else data + b"\n" + hashlib.sha256(data).hexdigest().encode() + b"\n")
    manifest = read_manifest(path)
    manifest.to_bytes()
    _ = manifest.tag


def _manifest_seeds(_: Path) -> dict[str, bytes]:
    facts = {"model": "m", "thresholds": [0.5, 0.25], "features": False, "versions": {"numpy": "2.0"}}
    whole = Manifest("ab" * 32, facts, (123, 456), ({"numpy": "2.1"},), "0123456789abcdef").to_bytes()
    return {"document": whole.partition(b"\n")[0], "whole": whole}


def _mutate_manifest(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    document, newline, check = data.partition(b"\n")
    try:
        json.loads(document)
    except (ValueError, RecursionError):
        return blind(data)
    changed = mutate_json(document, chance, blind)
    return changed if chance.random() < 0.9 else changed + newline + check


JOURNAL = Target(_read_journal, _journal_seeds, _mutate_journal, words=(MARK, b"pyramidai-journ\n"))
MANIFEST = Target(
    _read_manifest, _manifest_seeds, _mutate_manifest, words=(b'"run_hash":', b'"word":', b'"facts":', b'"replaces":')
)
