"""What may be done to the tiles of a slide: the contract between an analysis and the run that it is part of.

A run opens slides, hands out batches of tiles, journals and collects what comes of them, and knows nothing else of an
analysis than what stands here. Its part on one rank and one slide is a `SlideAnalysis`; what holds for all slides, also
for a rank that has not opened them, is the `Analysis`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from pyramidai_mpi.base.types import FAILED_DTYPE as FAILED_DTYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.settings import SlideInput
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.models.stain.map import StainMap, StainTarget
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.slides.pyramid import SlidePyramid
    from pyramidai_mpi.slides.source import Found


@dataclass(frozen=True)
class OpenSlide:
    """A slide under the levels of a model.

    Attributes
    ----------
    source
        Its file, and what of it is looked at.
    pyramid
        Its analysis levels.
    mpp
        µm per level-0 pixel.
    quickhash
        See `slides.identity.quickhash`.
    stain
        How its stain is normalised, where it is the slide's; None does nothing.
    tile_stain
        What the stain of each tile is brought to, estimated of that tile alone; None does nothing.
    raw_because
        Why an extraction of patches keeps decoded pixels of it, where its stored tiles were asked for; empty where it
        keeps what was asked for.
    """

    source: SlideInput
    pyramid: SlidePyramid
    mpp: float
    quickhash: str
    stain: StainMap | None = None
    tile_stain: StainTarget | None = None
    raw_because: str = ""


class Seconds(NamedTuple):
    """Wall seconds that a batch took: reading pixels, normalising their stain, computing."""

    read: float = 0.0
    stain: float = 0.0
    compute: float = 0.0


NO_TIME = Seconds()


@dataclass(frozen=True)
class Look:
    """What came of a batch of n tiles of one level.

    Attributes
    ----------
    records
        (n,) of the analysis's `record`, in the order of the tiles.
    closer
        Tiles to look at next.
    failed
        `FAILED_DTYPE` records of the tiles among them of which nothing could be found.
    features
        float32 (n, F), what else is kept of each tile; None where nothing is.
    seconds
        What it took.
    kept
        What else is kept in bytes, tile after tile: pictures, say. How many are a tile's, the field `KEPT_BYTES` of its
        record says; records without that field keep none.
    pixels
        CRC-32 of the pixels of each tile as they were read, uint32 (n,), where that was asked for; 0 of a tile that
        could not be read, or of which nobody has asked.
    """

    records: npt.NDArray[np.void]
    closer: TileArray
    failed: npt.NDArray[np.void]
    features: npt.NDArray[np.float32] | None = None
    seconds: Seconds = NO_TIME
    kept: bytes = b""
    pixels: npt.NDArray[np.uint32] | None = None


class SlideAnalysis(Protocol):
    """An analysis on one open slide. Used by one thread at a time, but for `prepare` and `close`."""

    def prepare(self, tiles: TileArray) -> list[Found | None]:
        """Begin to read tiles of one level, for `look` to be given what comes of it; from another thread."""
        ...

    def look(self, tiles: TileArray, prepared: Sequence[Found | None] | None = None) -> Look:
        """Do a batch of tiles of one level.

        Parameters
        ----------
        tiles
            Records of `Analysis.task` that share one level.
        prepared
            One entry a tile of what `prepare` has found, None for what is to be read now.

        Raises
        ------
        PyramidError
            Ends the slide, and not the others. What concerns a tile alone is a record of `Look.failed` instead.
        """
        ...

    def close(self) -> None:
        """Close the slide; `prepare` does nothing from now on."""
        ...


class CheckedAnalysis(SlideAnalysis, Protocol):
    """One that says what it has read, so that a run may audit it."""

    def look(
        self,
        tiles: TileArray,
        prepared: Sequence[Found | None] | None = None,
        checked: npt.NDArray[np.bool_] | None = None,
    ) -> Look:
        """As `SlideAnalysis.look`; `Look.pixels` is wanted of the tiles `checked`, bool (n,)."""
        ...


class Analysis(Protocol):
    """What is done to the tiles of every slide of a run. The same on all ranks.

    One whose batches take no less time for having fewer tiles says of how many, as ``batch_grain``.

    Attributes
    ----------
    record
        One tile's record: a packed type with the fields of `TILE_DTYPE` and more, written and sent as it is.
    task
        What is said of a tile before it is done: `TILE_DTYPE`, or these fields and more that follow from the record of
        the tile over it. Of this type are `first`, `closer`, and the tiles that `SlideAnalysis` is given.
    widths
        Length F of the feature vectors kept of each tile, by level, 0 for none.
    """

    @property
    def record(self) -> np.dtype[np.void]: ...  # noqa: D102
    @property
    def task(self) -> np.dtype[np.void]: ...  # noqa: D102
    @property
    def widths(self) -> tuple[int, ...]: ...  # noqa: D102

    def first(self, rule: TileRule) -> TileArray:
        """Tiles to begin a slide with."""
        ...

    def closer(self, rule: TileRule, records: npt.NDArray[np.void]) -> TileArray:
        """Tiles that these records (n,) say to look at next; what `SlideAnalysis.look` returned with them."""
        ...

    def contradictions(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Which records (n,) of one level cannot have been made by this analysis, bool (n,)."""
        ...

    def on(self, slide: OpenSlide, rule: TileRule) -> SlideAnalysis:
        """Begin on a slide that this rank has opened."""
        ...


def failed_records(tiles: TileArray, reasons: dict[int, str]) -> npt.NDArray[np.void]:
    """`FAILED_DTYPE` records of the tiles at these positions, with the reason of each."""
    failed = np.zeros(len(reasons), FAILED_DTYPE)
    for row, (position, reason) in enumerate(sorted(reasons.items())):
        for name in ("level", "col", "row"):
            failed[name][row] = tiles[name][position]
        failed["reason"][row] = reason.encode(errors="backslashreplace")[:200]
    return failed
