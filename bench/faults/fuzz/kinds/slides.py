"""Slides: TIFF directories and stored tiles of all codecs, and pictures that are read as a whole.

OpenSlide's own decoders may crash of a file,
and a rank must not: so a child opens it first and looks at every level, as
`slides.readers.trial` does before a run. Here the process that fuzzes does what the child does; what that survives is
read whole, as ranks do. A crash of libraries in C during the first is the child's, and contained.
"""

from __future__ import annotations

import contextlib
import io
import struct
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from PIL import Image

from bench.faults.fuzz.target import Target
from bench.faults.fuzz.tiffs import mutate_tiff
from pyramidai_mpi.base.odd_levels import INTERPOLATED, OWN
from pyramidai_mpi.slides.dicom import dicom_slide_in
from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide

if TYPE_CHECKING:
    from pathlib import Path

_TILE = 32
_REGION = 64
_MOST_REGIONS = 40


def _read(data: bytes, folder: Path) -> None:
    if data.startswith(b"DICM"):
        (folder / "1.dcm").write_bytes(bytes(128) + data)
        dicom_slide_in(folder)
        return
    ending = "png" if data.startswith(b"\x89PNG") else "jpg" if data.startswith(b"\xff\xd8") else "tif"
    path = folder / f"slide.{ending}"
    path.write_bytes(data)
    for odd_levels in (OWN, INTERPOLATED):
        slide = open_slide(path, odd_levels=odd_levels)
        try:
            info = slide.info
            read_thumbnail(slide, max(32.0, max(info.l0_size) / 256))
            for stored_level, (width, height) in enumerate(info.stored_sizes):
                downsample = info.stored_downsamples[stored_level]
                corners = [
                    (x, y) for y in range(0, min(height, 512), _REGION) for x in range(0, min(width, 512), _REGION)
                ]
                for x, y in corners[:_MOST_REGIONS]:
                    with contextlib.suppress(UnreadableRegionError):
                        slide.read((int(x * downsample), int(y * downsample)), stored_level, (_REGION, _REGION))
        finally:
            slide.close()


def _seeds(_: Path) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    whole = np.kron(rng.integers(60, 200, (6, 8, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    seeds: dict[str, bytes] = {}
    for name, compression, more in (
        ("jpeg", "jpeg", {"compressionargs": {"level": 80}}),
        ("deflate", "zlib", {}),
        ("differences", "zlib", {"predictor": True}),
        ("lzw", "lzw", {"predictor": True}),
        ("raw", None, {}),
        ("zstd", "zstd", {}),
        ("webp", "webp", {}),
        ("jpeg2000", "aperio_jp2000_rgb", {}),
    ):
        with io.BytesIO() as file:
            with tifffile.TiffWriter(file) as tiff:
                for n, image in enumerate((whole, whole[::2, ::2])):
                    tiff.write(
                        image, tile=(_TILE, _TILE), photometric="rgb", compression=compression, subfiletype=int(n > 0),
                        metadata=None, resolution=(1e4 / 0.25 / 2**n,) * 2, resolutionunit="CENTIMETER",
                        description="Aperio Image Library |MPP = 0.25|AppMag = 40" if name == "jpeg2000" else None,
                        **more,
                    )  # fmt: skip
            seeds[name] = file.getvalue()
    for ending, options in (("png", {}), ("jpeg", {"quality": 80}), ("tiff", {"compression": "tiff_lzw"})):
        with io.BytesIO() as file:
            Image.fromarray(whole[:48, :64]).save(file, ending, **options)
            seeds[f"picture-{ending}"] = file.getvalue()
    with io.BytesIO() as file:
        tifffile.imwrite(
            file, whole[:48, :64], photometric="rgb", planarconfig="contig", rowsperstrip=8, compression="zlib"
        )
        seeds["strips"] = file.getvalue()
    uid = struct.pack("<HH2sH", 0x0020, 0x000E, b"UI", 4) + b"1.2\0"
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 8) + uid[:8]
    sequence = (
        struct.pack("<HH2sHI", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF) + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    )
    syntax = struct.pack("<HH2sH", 0x0002, 0x0010, b"UI", 18) + b"1.2.840.10008.1.2\0"
    seeds["dicom"] = b"DICM" + syntax + uid
    seeds["dicom-nested"] = b"DICM" + sequence + uid
    return seeds


SLIDES = Target(_read, _seeds, mutate_tiff, memory_mib=2048, seconds=20.0, most_bytes=1 << 15)
