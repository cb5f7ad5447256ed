"""Masks of tumour, tissue or nuclei: TIFF and PNG of others, TIFF of this program, arrays of NumPy; and pictures."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from PIL import Image

from bench.faults.fuzz.target import Target, go_all
from bench.faults.fuzz.tiffs import mutate_tiff
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.pictures import decode_file
from pyramidai_mpi.store.masks.reader import open_mask_file
from pyramidai_mpi.store.masks.writer import FORMAT, place_mask
from pyramidai_mpi.truth.label_mask import open_mask
from pyramidai_mpi.truth.nuclei import LabelledNuclei, open_nuclei
from pyramidai_mpi.truth.png_mask import open_png_mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

_L0_SIZE = (256, 192)
_SIZE = (64, 48)
_PNG, _NPY = b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"


def _read(data: bytes, folder: Path) -> None:
    if data.startswith(_NPY):
        path = folder / "a.h5.nuclei.npy"
        path.write_bytes(data)
        open_nuclei(folder, "slide.tif", _L0_SIZE, folder / "a.h5").window((0.0, 0.0), 1.0, 8, 0)
        return
    is_png = data.startswith(_PNG)
    path = folder / ("mask.png" if is_png else "mask.tif")
    path.write_bytes(_with_checks(data) if is_png else data)
    ways: list[Callable[[], object]] = [lambda: _look(path)]
    if is_png:
        ways = [lambda: open_png_mask(path, _L0_SIZE).coverage((6, 8), 32.0)]
    else:
        ways.append(lambda: _bands(path))
    go_all(lambda: _decode(data), *ways)


def _decode(data: bytes) -> None:
    try:
        decode_file(data, _SIZE)
    except ValueError as error:
        raise InputError(str(error)) from error


def _look(path: Path) -> None:
    mask = open_mask(path, _L0_SIZE)
    mask.coverage((6, 8), 32.0)
    mask.marked(8.0)
    mask.window((10.0, 10.0), 2.0, 32)
    LabelledNuclei(mask).window((0.0, 0.0), 4.0, 48)


def _bands(path: Path) -> None:
    with open_mask_file(path) as mask:
        for level in range(len(mask.sizes)):
            for _ in mask.bands(level):
                pass


def _with_checks(data: bytes) -> bytes:
    """A PNG whose pieces have the checksums that their bytes give."""
    pieces, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        pieces.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(pieces)


def _mutate(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    if not data.startswith(_PNG):
        return blind(data) if data.startswith(_NPY) else mutate_tiff(data, chance, blind)
    pieces, at = [], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        pieces.append([data[at + 4 : at + 8], data[at + 8 : end - 4]])
        at = end
    if not pieces:
        return blind(data)
    n = chance.randrange(len(pieces))
    kind = chance.randrange(5)
    if kind == 0:
        pieces.insert(chance.randrange(len(pieces) + 1), pieces[n])
    elif kind == 1 and len(pieces) > 1:
        del pieces[n]
    elif kind == 2 and pieces[n][0] == b"IDAT":
        try:
            plain = zlib.decompress(pieces[n][1])
        except zlib.error:
            plain = pieces[n][1]
        pieces[n] = [
            b"IDAT",
            zlib.compress(chance.choice([blind(plain), plain * 2, plain[: len(plain) // 2], plain * 999])),
        ]
    elif kind == 3 and pieces[0][1]:
        place = chance.randrange(len(pieces[0][1]))
        value = bytes([chance.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])])
        pieces[0] = [pieces[0][0], pieces[0][1][:place] + value + pieces[0][1][place + 1 :]]
    else:
        pieces[n] = [chance.choice([pieces[n][0], b"PLTE", b"tRNS", b"IDAT", b"zTXt", b"iCCP"]), blind(pieces[n][1])]
    changed = b"".join(struct.pack(">I", len(body)) + name + body + b"\0\0\0\0" for name, body in pieces)
    return _with_checks(data[:8] + changed)


def _seeds(folder: Path) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    labels = (rng.random((_SIZE[1], _SIZE[0])) < 0.3).astype(np.uint8)
    colours = rng.integers(0, 255, (_SIZE[1], _SIZE[0], 3), np.uint8)
    seeds: dict[str, bytes] = {}
    for name, image, options in (
        ("tiles", labels, {"tile": (16, 16), "compression": "zlib"}),
        ("lzw", labels * 3, {"tile": (32, 32), "compression": "lzw", "predictor": True}),
        ("strips", labels.astype(np.uint16), {"rowsperstrip": 8, "byteorder": ">"}),
        ("packbits", labels, {"compression": "packbits"}),
        ("zstd", labels, {"tile": (16, 16), "compression": "zstd"}),
        ("webp", colours, {"tile": (16, 16), "compression": "webp"}),
        ("jpeg", colours, {"tile": (16, 16), "compression": "jpeg", "photometric": "rgb"}),
        ("rgb", colours, {"photometric": "rgb"}),
        ("ones", labels.astype(bool), {}),
    ):
        with io.BytesIO() as file:
            tifffile.imwrite(file, image, metadata=None, **options)
            seeds[name] = file.getvalue()
    for name, mode, image in (("png", "L", labels * 255), ("palette", "P", labels), ("colours", "RGB", colours)):
        with io.BytesIO() as file:
            Image.fromarray(image, "L" if mode == "P" else mode).convert(mode).save(file, "PNG")
            seeds[name] = file.getvalue()
    with io.BytesIO() as file:
        np.save(file, np.zeros((2, 8, 8), np.uint16))
        seeds["array"] = file.getvalue()
    own = folder / "own.tif"
    place_mask(own, _SIZE, lambda top, end: labels[top:end] * 255, um_px=0.25, facts={"format": FORMAT})
    seeds["own"] = own.read_bytes()
    return seeds


MASKS = Target(_read, _seeds, _mutate, memory_mib=1024, most_bytes=1 << 14)
