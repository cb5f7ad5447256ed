"""Masks of whole slides as tiled, compressed, pyramidal TIFFs, written as they stream by, read back, and then named.

Pages follow each other, the largest first, as OpenSlide, QuPath, libvips and tifffile take pyramids. Nothing in the
file tells when or by how many it was made: equal masks are equal files.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from pyramidai_mpi.base.errors import StorageError
from pyramidai_mpi.pyramid.mask_labels import reduced_labels, reduced_means
from pyramidai_mpi.store.files.placing import discard, place, storage_errors, temporary_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pyramidai_mpi.pyramid.mask_labels import Labels

FORMAT = "pyramidai-mask/1"
TILE = 512
"""Side of a stored tile. The mask comes in bands of so many rows."""
_LARGEST_PLAIN = 1 << 31
"""Bytes of pixels from which on a file has offsets of 64 bits, whatever they compress to."""


def level_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """Sizes of the stored levels, each half of the one before, rounded up, until one is no longer than a tile."""
    sizes = [(width, height)]
    # a band of rows is a whole number of pixels of every level
    while max(sizes[-1]) > TILE and 2 ** len(sizes) <= TILE:
        shrink = 2 ** len(sizes)
        sizes.append((-(-width // shrink), -(-height // shrink)))
    return sizes


def place_mask(
    path: Path,
    size: tuple[int, int],
    rows: Callable[[int, int], Labels],
    *,
    um_px: float | None,
    facts: Mapping[str, Any],
    is_probability: bool = False,
    overwrite: bool = False,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write a mask, or probabilities, read it back, and give it its name.

    Parameters
    ----------
    path
        The file to be.
    size
        Width and height in pixels.
    rows
        Gives rows from the first to the last (excluded), uint8 (h, width); called once for each band of `TILE` rows,
        from the top.
    um_px
        µm per pixel; None where nobody knows.
    facts
        What the file says of itself, as JSON has it.
    is_probability
        Whether larger pixels hold means instead of labels.
    overwrite, check
        As of `files.placing.place`.

    Raises
    ------
    OutputExistsError, StorageError
        When the file is in the way, or cannot be written.
    """
    temporary = temporary_name(path)
    try:
        with storage_errors(temporary):
            digests = _write(temporary, size, rows, um_px, facts, is_probability=is_probability)
            if _digests_of(temporary) != digests:
                raise StorageError(
                    f"{path.parent}: what was written there reads back as something else; see to the disk"
                )
            place(temporary, path, overwrite=overwrite, check=check)
    finally:
        discard(temporary)


def _write(
    temporary: Path,
    size: tuple[int, int],
    rows: Callable[[int, int], Labels],
    um_px: float | None,
    facts: Mapping[str, Any],
    *,
    is_probability: bool,
) -> list[str]:
    """Write all levels; the digest of each."""
    sizes = level_sizes(*size)
    reduce = reduced_means if is_probability else reduced_labels
    with ExitStack() as stack:
        lower = []
        for width, height in sizes[1:]:
            # nameless, beside the mask, which has to have room for it
            file = stack.enter_context(tempfile.TemporaryFile(prefix=".pyramidai-level-", dir=temporary.parent))
            lower.append(np.memmap(file, np.uint8, "w+", shape=(height, width)))

        def bands() -> Iterator[Labels]:
            for top in range(0, size[1], TILE):
                band = rows(top, min(top + TILE, size[1]))
                for n, level in enumerate(lower, 1):
                    part = reduce(band, 2**n)
                    level[top >> n : (top >> n) + len(part)] = part
                yield band

        digests = []
        is_big = size[0] * size[1] >= _LARGEST_PLAIN
        with tifffile.TiffWriter(temporary, bigtiff=is_big) as tiff:
            for n, (width, height) in enumerate(sizes):
                digest = hashlib.sha256()
                source = _bands_of(lower[n - 1]) if n else bands()
                tiff.write(
                    _tiles(source, digest),
                    shape=(height, width),
                    dtype=np.uint8,
                    tile=(TILE, TILE),
                    compression="zlib",
                    photometric="minisblack",
                    subfiletype=1 if n else 0,
                    software="pyramidai_mpi",
                    description=None if n else json.dumps({"format": FORMAT, **facts}),
                    metadata=None,
                    maxworkers=1,
                    **_resolution(um_px, size, (width, height)),
                )
                digests.append(digest.hexdigest())
        return digests


def _resolution(um_px: float | None, size: tuple[int, int], level: tuple[int, int]) -> dict[str, Any]:
    if um_px is None:
        return {"resolution": (1, 1), "resolutionunit": "NONE"}
    across, down = (1e4 / um_px * part / whole for part, whole in zip(level, size, strict=True))
    return {"resolution": (across, down), "resolutionunit": "CENTIMETER"}


def _bands_of(level: Labels) -> Iterator[Labels]:
    for top in range(0, len(level), TILE):
        yield np.asarray(level[top : top + TILE])


def _tiles(bands: Iterator[Labels], digest: Any) -> Iterator[Labels]:
    """Stored tiles, row by row, filled up with zeros."""
    for band in bands:
        height, width = band.shape
        for left in range(0, width, TILE):
            tile = np.zeros((TILE, TILE), np.uint8)
            part = band[:, left : left + TILE]
            tile[:height, : part.shape[1]] = part
            digest.update(tile.tobytes())
            yield tile


def _digests_of(path: Path) -> list[str]:
    """The digest of each level as it can be read."""
    digests = []
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            digest = hashlib.sha256()
            for data, index, _ in page.segments(maxworkers=1):
                tile = np.zeros((TILE, TILE), np.uint8)
                if data is not None:
                    height, width = (min(TILE, page.shape[axis] - index[axis - 3]) for axis in (0, 1))
                    tile[:height, :width] = data.reshape(data.shape[-3:-1])[:height, :width]
                digest.update(tile.tobytes())
            digests.append(digest.hexdigest())
    return digests
