"""Pyramidal, tiled JPEG TIFFs that OpenSlide opens, and ways to damage them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STORED_TILE = 128


def textured(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Patches of 32 px in many colours under a little noise, none of them near black or white."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(60, 200, (-(-height // 32), -(-width // 32), 3))
    image = patches.repeat(32, axis=0).repeat(32, axis=1)[:height, :width] + rng.integers(-8, 9, (height, width, 3))
    return image.astype(np.uint8)


def halved(image: np.ndarray) -> np.ndarray:
    """2 x 2 block means, rounded; an odd last row or column is dropped."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    blocks = image[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def write_slide(
    path: Path,
    levels: Sequence[np.ndarray],
    *,
    mpp: float | tuple[float, float] | None = 0.25,
    compression: str | None = "jpeg",
    bigtiff: bool = False,
) -> Path:
    """A generic tiled TIFF of these images, finest first; without `mpp` it does not say how large its pixels are."""
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
        for n, image in enumerate(levels):
            options = {}
            if mpp is not None:
                mpp_x, mpp_y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
                shrink = levels[0].shape[1] / image.shape[1]
                options["resolution"] = (1e4 / (mpp_x * shrink), 1e4 / (mpp_y * shrink))
                options["resolutionunit"] = "CENTIMETER"
            else:
                options["resolutionunit"] = "NONE"
            tiff.write(
                image,
                tile=(STORED_TILE, STORED_TILE),
                photometric="rgb",
                compression=compression,
                compressionargs={"level": 95} if compression == "jpeg" else None,
                subfiletype=1 if n else 0,
                metadata=None,
                **options,
            )
    return path


def write_philips(path: Path, levels: Sequence[np.ndarray]) -> Path:
    """The same as a Philips TIFF (its XML as OpenSlide's philips driver asks for it) at 0.25 µm/px."""

    def attribute(name: str, kind: str, value: str) -> str:
        return f'<Attribute Name="{name}" Group="0x301D" Element="0x1004" PMSVR="{kind}">{value}</Attribute>'

    def spacing(shrink: int) -> str:
        side = f"&quot;{25e-5 * shrink:f}&quot;"
        return attribute("DICOM_PIXEL_SPACING", "IDoubleArray", f"{side} {side}")

    stored = "".join(
        f'<DataObject ObjectType="PixelDataRepresentation">{spacing(2**n)}'
        f"{attribute('PIIM_PIXEL_DATA_REPRESENTATION_NUMBER', 'IUInt16', str(n))}</DataObject>"
        for n in range(len(levels))
    )
    sequence = attribute("PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", "IDataObjectArray", f"<Array>{stored}</Array>")
    image = f"{attribute('PIM_DP_IMAGE_TYPE', 'IString', 'WSI')}{spacing(1)}{sequence}"
    images = f'<Array><DataObject ObjectType="DPScannedImage">{image}</DataObject></Array>'
    xml = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        f"{attribute('PIM_DP_SCANNED_IMAGES', 'IDataObjectArray', images)}</DataObject>"
    )
    with tifffile.TiffWriter(path) as tiff:
        for n, level in enumerate(levels):
            tiff.write(
                level,
                tile=(STORED_TILE, STORED_TILE),
                photometric="rgb",
                compression="jpeg",
                subfiletype=1 if n else 0,
                software="Philips DP v1.0",
                description=f"level={n}" if n else xml,
                metadata=None,
            )
    return path


def stored_tile(path: Path, col: int, row: int, page: int = 0) -> tuple[int, int]:
    """Offset and byte count of one stored tile."""
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[page]
        number = row * -(-found.imagewidth // STORED_TILE) + col
        return found.dataoffsets[number], found.databytecounts[number]


def zero_tile(path: Path, col: int, row: int, page: int = 0) -> None:
    """Overwrite a stored tile's bytes with zeros, as a bad disk block would."""
    offset, count = stored_tile(path, col, row, page)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))


def cut_tile(path: Path, col: int, row: int) -> None:
    """Overwrite the second half of a stored tile's bytes with zeros."""
    offset, count = stored_tile(path, col, row)
    with path.open("r+b") as file:
        file.seek(offset + count // 2)
        file.write(bytes(count - count // 2))


def drop_tile(path: Path, col: int, row: int, page: int = 0) -> None:
    """Set a stored tile's byte count to 0: by the TIFF's own account the tile is not there."""
    _set_entry(path, "TileByteCounts", col, row, page, 0)


def move_tile_to_the_end(path: Path, col: int, row: int) -> None:
    """Append a stored tile's bytes to the file and read it from there: what a cut of the file loses first."""
    offset, count = stored_tile(path, col, row)
    data = path.read_bytes()
    path.write_bytes(data + data[offset : offset + count])
    _set_entry(path, "TileOffsets", col, row, 0, len(data))


def zero_tail(path: Path, col: int, row: int, length: int, page: int = 0) -> None:
    """Overwrite the last bytes of a stored tile with zeros."""
    offset, count = stored_tile(path, col, row, page)
    with path.open("r+b") as file:
        file.seek(offset + count - length)
        file.write(bytes(length))


def claim_bytes(path: Path, col: int, row: int, count: int) -> None:
    """Set a stored tile's byte count to anything; beyond 4 GiB in a BigTIFF only."""
    if count < 1 << 32:
        _set_entry(path, "TileByteCounts", col, row, 0, count)
        return
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        page = tiff.pages[0]
        counts = list(page.databytecounts)
        counts[row * -(-page.imagewidth // STORED_TILE) + col] = count
        page.tags["TileByteCounts"].overwrite(counts, dtype=16)


def point_beyond_the_end(path: Path, col: int, row: int) -> None:
    """Let a stored tile start after the end of the file."""
    _set_entry(path, "TileOffsets", col, row, 0, path.stat().st_size + 1000)


def set_field(path: Path, name: str, value: int, page: int = 0) -> None:
    """Overwrite the (first) value of a field of a page, as it is stored."""
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[page].tags[name]
        code, place = {3: "<H", 4: "<I", 16: "<Q"}[int(tag.dtype)], tag.valueoffset
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack(code, value))


def link_pages(path: Path, page: int, following: int | None) -> None:
    """Let a page's directory be followed by another page's, or by none. Of a classic TIFF."""
    with tifffile.TiffFile(path) as tiff:
        places = [one.offset for one in tiff.pages]
    data = bytearray(path.read_bytes())
    entries = struct.unpack_from("<H", data, places[page])[0]
    target = 0 if following is None else places[following]
    struct.pack_into("<I", data, places[page] + 2 + 12 * entries, target)
    path.write_bytes(data)


def _set_entry(path: Path, table: str, col: int, row: int, page: int, value: int) -> None:
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[page]
        tag = found.tags[table]
        code = {3: "<H", 4: "<I", 16: "<Q"}[int(tag.dtype)]
        place = tag.valueoffset + (row * -(-found.imagewidth // STORED_TILE) + col) * struct.calcsize(code)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack(code, value))
