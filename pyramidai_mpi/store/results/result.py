"""A finished result in memory: what the result file holds, without the file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.types import Decision, WindowState
from pyramidai_mpi.pyramid.decision import passes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.part import Part
    from pyramidai_mpi.pyramid.tree import ExecutionTree, TreeLevel
    from pyramidai_mpi.store.results.prediction import SlidePrediction

FORMAT = "pyramidai-result"
PART_FORMAT = "pyramidai-result-part"
"""Of a part of a result: the same tables, of some of the roots. Whoever reads results takes it for none."""
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
    openslide_quickhash1
        OpenSlide's own hash of the slide, by which other programs know it; None where OpenSlide makes none, and in
        results of before it was kept.
    """

    name: str
    quickhash: str
    vendor: str
    l0_size: tuple[int, int]
    mpp: float
    l0_bounds: tuple[int, int]
    sha256: str | None = None
    openslide_quickhash1: str | None = None


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
    intended_use: str | None = None
    """None where the package did not say, and in results of before packages could; see `base.intended_use`."""


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
    feature_type
        ``float32`` or ``float16``: what their numbers are kept in.
    network
        Level of the model whose network looked; None for that of the same number.
    cell
        Side of a cell, that a score stands for, in pixels of the analysis level: the stride of the windows. None for
        that of a window.
    block
        Cells along the side of a tile.
    margin
        Pixels of a window to the left of its cell and above it.
    base
        Side in pixels of the model's level 0 of the squares whose tissue decided what was looked at; None for that of a
        tile of level 0. The same at all levels.
    ring_before, ring_after
        Cells that a block knows above and to the left of its own, and below and to the right: 0 or 1.
    """

    patch_size: int
    patch_size_level0: int
    patch_level: int
    downsample: float
    level_dim: tuple[int, int]
    spacing_um_px: float
    threshold: float
    n_features: int = 0
    network: int | None = None
    cell: int | None = None
    block: int = 1
    margin: int = 0
    base: int | None = None
    ring_before: int = 0
    ring_after: int = 0
    feature_type: str = "float32"

    @property
    def side(self) -> int:
        """Cells along the side of a block with its ring."""
        return self.block + self.ring_before + self.ring_after

    @property
    def inner(self) -> slice:
        """Rows or columns of a block's own cells."""
        return slice(self.ring_before, self.ring_before + self.block)

    @property
    def geometry(self) -> list[int | None]:
        """What the digest takes in where tiles are not windows side by side."""
        return [self.network, self.cell, self.block, self.margin]


CELL_ATTRIBUTES = {
    "network": "network",
    "cell": "cell_px",
    "block": "block_cells",
    "margin": "margin_px",
    "base": "base_px",
    "ring_before": "ring_before",
    "ring_after": "ring_after",
}
"""Fields of `LevelRecord`, and the attributes that hold them where tiles are not windows side by side."""


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
class PartRecord:
    """What a part of a file says of itself.

    Attributes
    ----------
    part
        Which part of how many it is.
    facts
        All that decides it, as JSON (see `run.parts`).
    """

    part: Part
    facts: str


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
        Level-0 tiles, of blocks their windows, that a reference run would have analysed.
    execution
        How the result came about.
    part
        Which part of a result it is; None for a whole one.
    prediction
        What the model's aggregator says of the slide; None of a model of tiles alone, and in a part.
    encoder
        The package that gave the features of level 0 beside the model; None where there was none.
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
    part: PartRecord | None = None
    prediction: SlidePrediction | None = None
    encoder: ModelRecord | None = None

    @property
    def has_encoded(self) -> bool:
        """Whether an encoder gave features, as the model or beside it."""
        return self.encoder is not None or not self.model.classes

    @property
    def n_positive(self) -> int:
        """Tiles of level 0, of blocks the windows that were looked at, whose score reaches the threshold."""
        finest = self.tree.levels[0]
        if finest.score is None:
            return self.tree.count(Decision.ZOOM)[0]
        assert finest.state is not None
        inner = self.levels[0].inner
        looked = finest.state[:, inner, inner] == WindowState.LOOKED
        return int((passes(finest.score[:, inner, inner], self.levels[0].threshold) & looked).sum())

    def digest(self) -> str:
        """See `digest_of`."""
        return digest_of(self.slide.quickhash, self.model.level_sha256, self.levels, self.tree.levels)


HASHED = (("index", "<u4"), ("probability", "<f4"), ("decision", "u1"), ("parent", "<i8"))
"""Tables that are part of the digest, in this order, and the type of what is hashed."""

CELLS = (("score", "<f4"), ("state", "u1"))
"""Further ones, of a level whose tiles are blocks of windows."""


def hashed_tables(record: LevelRecord) -> tuple[tuple[str, str], ...]:
    """Names and types of the tables of a level that are part of the digest."""
    return HASHED + CELLS if record.block > 1 else HASHED


def digest_of(
    quickhash: str,
    level_sha256: tuple[str, ...],
    records: Sequence[LevelRecord],
    levels: Mapping[int, TreeLevel],
) -> str:
    """The digest of a result in memory; see `digest_of_blocks`."""
    tables = (
        (len(levels[n]), [[getattr(levels[n], name)] for name, _ in hashed_tables(records[n])]) for n in sorted(levels)
    )
    return digest_of_blocks(quickhash, level_sha256, records, tables)


def digest_of_blocks(
    quickhash: str,
    level_sha256: tuple[str, ...],
    records: Sequence[LevelRecord],
    levels: Iterable[tuple[int, Iterable[Iterable[npt.NDArray[Any]]]]],
) -> str:
    """SHA-256 over what a result says, equal whatever the ranks, seeds, policies and batches that produced it.

    Parameters
    ----------
    quickhash
        Quick hash of the slide.
    level_sha256
        Hashes of the model's networks, level 0 first.
    records
        Of each level, level 0 first.
    levels
        For each level, level 0 first, the number of its tiles, and for each of its `hashed_tables` its rows in blocks.

    Returns
    -------
    str
        64 hexadecimal digits. Hashed are, each ended by a newline, the text ``pyramidai-digest/1``, the quick hash and
        the model hashes; then the thresholds as little-endian float64; then for each level from 0 on the number of
        tiles as little-endian int64 and the bytes of index, probability, decision and parent in the file's types.
        Where tiles are not windows side by side, the text is ``pyramidai-digest/2``, and after the hashes come, as a
        line of JSON, network, cell, block and margin of each level; of blocks also the bytes of score and state.
    """
    text = ["pyramidai-digest/1", quickhash, *level_sha256, ""]
    if any(record.cell is not None for record in records):
        geometry = json.dumps([record.geometry for record in records], separators=(",", ":"))
        text = ["pyramidai-digest/2", quickhash, *level_sha256, geometry, ""]
    digest = hashlib.sha256("\n".join(text).encode())
    digest.update(np.asarray([record.threshold for record in records], "<f8").tobytes())
    for record, (n_tiles, tables) in zip(records, levels, strict=True):
        digest.update(np.int64(n_tiles).astype("<i8").tobytes())
        for (_, dtype), blocks in zip(hashed_tables(record), tables, strict=True):
            for block in blocks:
                digest.update(np.ascontiguousarray(block, dtype).data)
    return digest.hexdigest()
