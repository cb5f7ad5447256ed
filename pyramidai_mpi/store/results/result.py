"""A finished result in memory: what the result file holds, without the file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from pyramidai_mpi.pyramid.tree import ExecutionTree, TreeLevel

FORMAT = "pyramidai-result"
FORMAT_VERSION = 1

BATCH_DTYPE = np.dtype([("rank", "<i4"), ("level", "u1"), ("tiles", "<u4"), ("start_s", "<f4"), ("end_s", "<f4")])
"""One batch of a run: who did how many tiles of which level, and when, in seconds from the start of the analysis."""


@dataclass(frozen=True)
class SlideRecord:
    """The slide of a result.

    Attributes
    ----------
    name
        File name without folders.
    quickhash
        See `slides.identity.quickhash`.
    vendor
        OpenSlide's name of the format.
    l0_size
        Width and height in level-0 pixels.
    mpp
        µm per level-0 pixel that the run used.
    l0_bounds
        x, y of the non-empty region's corner.
    sha256
        SHA-256 of the whole file, when it was asked for.
    """

    name: str
    quickhash: str
    vendor: str
    l0_size: tuple[int, int]
    mpp: float
    l0_bounds: tuple[int, int]
    sha256: str | None = None


@dataclass(frozen=True)
class ModelRecord:
    """The model of a result; fields as in `models.package.ModelPackage`."""

    name: str
    classes: tuple[str, ...]
    positive_class: str
    tile_size: int
    scale_factor: int
    base_mpp: float
    stain: str
    level_sha256: tuple[str, ...]
    yaml_text: str


@dataclass(frozen=True)
class LevelRecord:
    """Geometry and threshold of one level of a result.

    Attributes
    ----------
    patch_size
        Side of a tile in pixels of the stored level `patch_level`.
    patch_size_level0
        Side of a tile in level-0 pixels, rounded.
    patch_level
        Stored level of the file that was read.
    downsample
        Level-0 pixels per pixel of the analysis level.
    level_dim
        Width and height of the slide in pixels of the analysis level.
    spacing_um_px
        µm per pixel of the analysis level.
    threshold
        The decision block's threshold.
    n_features
        Length of the feature vectors kept, 0 for none.
    """

    patch_size: int
    patch_size_level0: int
    patch_level: int
    downsample: float
    level_dim: tuple[int, int]
    spacing_um_px: float
    threshold: float
    n_features: int = 0


@dataclass(frozen=True)
class TissueRecord:
    """The tissue mask of a result: bool (H, W), level-0 pixels per mask pixel, and the method's name."""

    mask: npt.NDArray[np.bool_]
    downsample: float
    method: str


@dataclass(frozen=True)
class Execution:
    """How a result came about. Provenance, not result: no part of the digest.

    Attributes
    ----------
    attributes
        Plain facts: command line, versions, times in seconds.
    ranks
        Structured array, one record a rank, fields as in `assembly.RANK_DTYPE`.
    batches
        `BATCH_DTYPE` records of all batches, by rank and in order; none where the run did not tell.
    """

    attributes: Mapping[str, str | int | float]
    ranks: npt.NDArray[np.void]
    batches: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, BATCH_DTYPE))


@dataclass(frozen=True)
class Result:
    """Everything that a result file holds.

    Attributes
    ----------
    slide, model, tissue
        What was analysed with what.
    levels
        Geometry of each level, level 0 first.
    tree
        The analysed tiles in canonical order.
    l0_coords
        For each level int64 (N, 2): l0_x, l0_y of the tiles' top-left corners.
    failed
        Unreadable tiles, records of `analyser.FAILED_DTYPE` sorted by level, row and column.
    mode
        The run's mode.
    n_reference_tiles
        Level-0 tiles that a reference run would have analysed.
    execution
        How the result came about.
    """

    slide: SlideRecord
    model: ModelRecord
    tissue: TissueRecord
    levels: tuple[LevelRecord, ...]
    tree: ExecutionTree
    l0_coords: tuple[npt.NDArray[np.int64], ...]
    failed: npt.NDArray[np.void]
    mode: str
    n_reference_tiles: int
    execution: Execution

    def digest(self) -> str:
        """See `digest_of`."""
        return digest_of(
            self.slide.quickhash,
            self.model.level_sha256,
            [level.threshold for level in self.levels],
            self.tree.levels,
        )


HASHED = (("index", "<u4"), ("probability", "<f4"), ("decision", "u1"), ("parent", "<i8"))
"""Tables that are part of the digest, in this order, and the type of what is hashed."""


def digest_of(
    quickhash: str, level_sha256: tuple[str, ...], thresholds: list[float], levels: Mapping[int, TreeLevel]
) -> str:
    """The digest of a result in memory; see `digest_of_blocks`."""
    tables = ((len(levels[n]), [[getattr(levels[n], name)] for name, _ in HASHED]) for n in sorted(levels))
    return digest_of_blocks(quickhash, level_sha256, thresholds, tables)


def digest_of_blocks(
    quickhash: str,
    level_sha256: tuple[str, ...],
    thresholds: list[float],
    levels: Iterable[tuple[int, Iterable[Iterable[npt.NDArray[Any]]]]],
) -> str:
    """SHA-256 over what a result says, equal whatever the ranks, seeds, policies and batches that produced it.

    Parameters
    ----------
    quickhash
        Quick hash of the slide.
    level_sha256, thresholds
        Network hash and threshold of each level, level 0 first.
    levels
        For each level, level 0 first, the number of its tiles, and for each table of `HASHED` its rows in blocks.

    Returns
    -------
    str
        64 hexadecimal digits. Hashed are, each ended by a newline, the text ``pyramidai-digest/1``, the quick hash and
        the model hashes; then the thresholds as little-endian float64; then for each level from 0 on the number of
        tiles as little-endian int64 and the bytes of index, probability, decision and parent in the file's types.
    """
    digest = hashlib.sha256("\n".join(["pyramidai-digest/1", quickhash, *level_sha256, ""]).encode())
    digest.update(np.asarray(thresholds, "<f8").tobytes())
    for n_tiles, tables in levels:
        digest.update(np.int64(n_tiles).astype("<i8").tobytes())
        for (_, dtype), blocks in zip(HASHED, tables, strict=True):
            for block in blocks:
                digest.update(np.ascontiguousarray(block, dtype).data)
    return digest.hexdigest()
