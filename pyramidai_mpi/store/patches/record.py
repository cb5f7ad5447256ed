"""What a file of patches says, and its digest."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.patch_order import ENDING, PIXELS, n_groups, slide_stem
from pyramidai_mpi.base.types import index_keys
from pyramidai_mpi.pyramid.grid import Grid, GridLevel, share_inside

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.results.result import PartRecord

FORMAT = "pyramidai-patches"
PART_FORMAT = "pyramidai-patches-part"
"""Of a part of such a file: the same tables, of some of the patches."""
FORMAT_VERSION = 1

PATCH_DTYPE = np.dtype(
    [
        ("col", "<u4"),
        ("row", "<u4"),
        ("l0_x", "<i8"),
        ("l0_y", "<i8"),
        ("cell_l0_x", "<i8"),
        ("cell_l0_y", "<i8"),
        ("inside", "<f4"),
        ("tissue", "<f4"),
        ("tumor", "<f4"),
        ("white", "<f4"),
        ("black", "<f4"),
        ("label", "<i2"),
    ]
)
"""One patch: its cell's column and row; the top-left corners of its window and of its cell in level-0 pixels of the
file; share of the window that lies on the slide, the rest being white; tissue share of the cell; share of the cell's
tissue that is tumour; share of white and of black pixels of the window; number of its label among
`PatchSettings.labels`, `UNKNOWN` for none. Shares that nobody has looked at are NaN."""

PLACE_DTYPE = np.dtype([("col", "<u4"), ("row", "<u4"), ("l0_x", "<i8"), ("l0_y", "<i8")])
"""Where a patch lies: the first fields of `PATCH_DTYPE`, which are all that reading its pixels takes."""

UNKNOWN = -1
"""Label of a patch that truth says nothing of."""

SHARES = ("inside", "tissue", "tumor", "white", "black")

TILE_INDEX_DTYPE = np.dtype([("number", "<i8"), ("length", "<u4"), ("crc32", "<u4")])
"""One stored tile that is kept: its number in the slide's level, row by row; bytes and CRC-32 of its encoded form. The
bytes of all of them stand one after the other, in this order."""

IMAGE_INDEX_DTYPE = np.dtype([("length", "<u4"), ("crc32", "<u4")])
"""The picture of one patch: bytes and CRC-32 of its encoded form. One row a patch, in the patches' order; the bytes of
all of them stand one after the other, in this order."""

FILES = "files"
IMAGE_CODINGS = ("raw", "jpeg", FILES)
"""How pictures of patches are encoded: RGB, row by row; JPEG; files of PNG, JPEG or TIFF as they were found."""

KEPT = (*PIXELS, FILES)
"""What a file of patches keeps of their pixels."""

PLACES = ("grid", "listed", "none")

_CAMELYON17 = re.compile(r"patient_(\d{3})_node_(\d)", re.ASCII)
_PATIENTS_A_CENTRE = 20
_CENTRES = 5
_FARTHEST = 1 << 32
_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True)
class PatchSlide:
    """The slide that patches are of.

    Attributes
    ----------
    name, quickhash, vendor
        File name without folders, quick hash, OpenSlide's name of the format.
    l0_size
        Width and height in level-0 pixels.
    mpp
        µm per level-0 pixel; NaN where there is no slide.
    origin
        What is known of where it comes from, of `ORIGINS`.
    """

    name: str
    quickhash: str
    vendor: str
    l0_size: tuple[int, int]
    mpp: float
    origin: Mapping[str, str] = field(default_factory=dict)


ORIGINS = ("patient", "node", "centre")


def origin_of(name: str) -> dict[str, str]:
    """Patient, node and centre that CAMELYON17 has put into a slide's name; empty for any other name.

    CAMELYON17 numbers 20 patients of each of 5 centres from 0 on. Names of CAMELYON16 say no patient.
    """
    found = _CAMELYON17.fullmatch(name.partition(".")[0])
    if found is None:
        return {}
    patient, node = int(found[1]), int(found[2])
    centre = patient // _PATIENTS_A_CENTRE
    known = {"patient": patient, "node": node} | ({"centre": centre} if centre < _CENTRES else {})
    return {name: str(number) for name, number in known.items()}


@dataclass(frozen=True)
class PatchSettings:
    """How patches were taken: all that decides which, beside the slide.

    Attributes
    ----------
    size, stride
        Side of a patch and of a cell in pixels.
    asked_mpp, asked_level
        What was asked for: µm per pixel, NaN where a stored level was; that level, -1 where µm per pixel were.
    spacing
        µm per pixel that the patches have.
    downsample
        Level-0 pixels per pixel.
    stored_level, stored_downsample, ratio
        See `slides.spacing.LevelPlan`.
    n_random, seed
        Drawn cells, of each label where there are labels, 0 where all are taken; and the seed.
    min_tissue
        Least tissue share of a cell.
    tissue_method
        How tissue was found.
    regions
        SHA-256 of each file that had a say in it, by role, as JSON.
    pixels
        One of `KEPT`.
    group
        Patches in a group.
    places
        ``grid`` where patches are cells of a grid over the slide; ``listed`` where their corners came from elsewhere;
        ``none`` where they are pictures of no known slide, whose corners are -1.
    labels
        Names of the labels as a JSON list; empty where nothing is labelled.
    tumor_share, normal_share
        Least tumour share of a patch labelled tumour, and greatest of one labelled normal; NaN without truth.
    max_white, white_level, max_black
        Greatest share of white and of black pixels, NaN for any; a pixel is white whose channels are all above
        `white_level`, and black whose channels are all 0.
    jpeg_quality
        Of pixels ``jpeg``, 1 to 100; 0 for the others.
    is_measured
        1 where these shares were looked at, 0 where not.
    only_label
        Label that alone was taken, empty where all were.
    above
        Score above which tiles of a result said where patches are; NaN where none did.
    """

    size: int
    stride: int
    asked_mpp: float
    asked_level: int
    spacing: float
    downsample: float
    stored_level: int
    stored_downsample: float
    ratio: float
    n_random: int
    seed: int
    min_tissue: float
    tissue_method: str
    regions: str
    pixels: str
    group: int
    places: str = PLACES[0]
    labels: str = "[]"
    tumor_share: float = math.nan
    normal_share: float = math.nan
    max_white: float = math.nan
    white_level: int = 200
    max_black: float = math.nan
    jpeg_quality: int = 0
    is_measured: int = 0
    only_label: str = ""
    above: float = math.nan

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, by their numbers."""
        names = json.loads(self.labels)
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError(f"labels {self.labels!r:.80}")
        return tuple(names)

    @property
    def kept_pixels(self) -> str:
        """What is kept of the pixels, as `base.patch_order.parse_pixels` reads it where it may be asked for."""
        return f"{self.pixels}:{self.jpeg_quality}" if self.jpeg_quality else self.pixels

    @property
    def sample(self) -> str:
        """``dense`` or ``random:N``."""
        return f"random:{self.n_random}" if self.n_random else "dense"

    def grid(self, l0_size: tuple[int, int]) -> Grid:
        """Geometry of the patches on a slide of this size: one level, whose windows they are."""
        return Grid(*l0_size, self.size, (GridLevel(self.downsample, self.stride),))


@dataclass(frozen=True)
class TileStore:
    """The stored level whose encoded tiles are kept, and how they are encoded.

    Attributes
    ----------
    level_size, tile_size
        Width and height in pixels.
    coding, tables, is_ycbcr, differences
        See `slides.readers.tile_codecs.TileCoding`.
    """

    level_size: tuple[int, int]
    tile_size: tuple[int, int]
    coding: str
    tables: bytes
    is_ycbcr: bool
    differences: bool


@dataclass(frozen=True)
class ImageStore:
    """How the pictures of patches are encoded, one a patch.

    Attributes
    ----------
    coding
        One of `IMAGE_CODINGS`.
    quality
        Of ``jpeg``, 1 to 100; 0 for the others.
    """

    coding: str
    quality: int = 0


@dataclass(frozen=True)
class PatchHeader:
    """What a file of patches says beside its tables.

    Attributes
    ----------
    slide, settings, tiles
        Whose patches, how they were taken, what is kept of their pixels: None for nothing.
    n_patches, n_failed, n_cells
        Patches; cells whose pixels could not be had; cells with enough tissue, of which some may have been drawn.
    n_tiles, tile_bytes
        Stored tiles that are kept, and their bytes.
    tile_place
        Place of the first of these bytes in the file.
    images
        How pictures of the patches are encoded; None where there are none.
    image_bytes, image_place
        Their bytes, and the place of the first of them in the file.
    digest
        Of the content.
    software_version, created
        Version of the program that wrote it, and when, in ISO 8601.
    part
        Which part of a file of patches it is; None for a whole one.
    n_refused
        Cells that were looked at and are no patches, as they are too white or black.
    """

    slide: PatchSlide
    settings: PatchSettings
    tiles: TileStore | None
    n_patches: int
    n_failed: int
    n_cells: int
    n_tiles: int
    tile_bytes: int
    tile_place: int
    digest: str
    software_version: str
    created: str
    images: ImageStore | None = None
    image_bytes: int = 0
    image_place: int = 0
    part: PartRecord | None = None
    n_refused: int = 0

    @property
    def n_groups(self) -> int:
        """Groups of consecutive patches."""
        return n_groups(self.n_patches, self.settings.group)


def patch_table(grid: Grid, index: npt.NDArray[np.integer], tissue: npt.NDArray[np.float32]) -> npt.NDArray[np.void]:
    """`PATCH_DTYPE` records of cells (N, 2): col, row, in their order, with the tissue share of each and no label."""
    table = _unknown(len(index))
    for first in range(0, len(index), _BLOCK_ROWS):  # what is computed on the way takes more than the table
        part, rows = index[first : first + _BLOCK_ROWS], table[first : first + _BLOCK_ROWS]
        rows["col"], rows["row"] = part[:, 0], part[:, 1]
        rows["l0_x"], rows["l0_y"] = grid.l0_corners(0, part).T
        rows["cell_l0_x"], rows["cell_l0_y"] = grid.l0_cell_corners(0, part).T
        rows["inside"] = grid.inside(0, part)
    table["tissue"] = tissue
    return table


def listed_table(
    settings: PatchSettings, l0_size: tuple[int, int], l0_corners: npt.NDArray[np.integer]
) -> npt.NDArray[np.void]:
    """`PATCH_DTYPE` records of patches that lie where a list says, in its order, without label or tissue share.

    Their numbers stand in the column ``col``.

    Parameters
    ----------
    settings
        Their size, stride and downsample.
    l0_size
        Of the slide; not used where there is none.
    l0_corners
        int64 (N, 2): l0_x, l0_y of their windows' top-left corners.
    """
    table = _unknown(len(l0_corners))
    table["col"] = np.arange(len(l0_corners))
    table["l0_x"], table["l0_y"] = l0_corners.T
    if settings.places == PLACES[2]:
        table["cell_l0_x"], table["cell_l0_y"], table["inside"] = table["l0_x"], table["l0_y"], 1
        return table
    margin = round((settings.size - settings.stride) // 2 * settings.downsample)
    table["cell_l0_x"], table["cell_l0_y"] = l0_corners.T + margin
    table["inside"] = share_inside(l0_corners, settings.size * settings.downsample, l0_size)
    return table


def placed_table(
    settings: PatchSettings,
    l0_size: tuple[int, int],
    index: npt.NDArray[np.integer],
    l0_corners: npt.NDArray[np.integer],
    tissue: npt.NDArray[np.float32],
) -> npt.NDArray[np.void] | None:
    """`PATCH_DTYPE` records as they follow from settings and, by their kind of places, from cells or corners.

    Returns
    -------
    numpy.ndarray or None
        None where they cannot be: cells beyond the grid, or one of them twice; corners beyond any slide.
    """
    if settings.places == PLACES[0]:
        grid = settings.grid(l0_size)
        fits = (index < grid.shape(0)).all() and (np.diff(index_keys(index)) > 0).all()
        return patch_table(grid, index, tissue) if fits else None
    fits = (l0_corners == -1).all() if settings.places == PLACES[2] else (np.abs(l0_corners) < _FARTHEST).all()
    return listed_table(settings, l0_size, l0_corners) if fits else None


def _unknown(n: int) -> npt.NDArray[np.void]:
    table = np.zeros(n, PATCH_DTYPE)
    table["label"] = UNKNOWN
    for name in ("tissue", "tumor", "white", "black"):
        table[name] = np.nan
    return table


def patch_digest(
    slide: PatchSlide,
    settings: PatchSettings,
    tiles: TileStore | None,
    patches: npt.NDArray[np.void],
    failed: npt.NDArray[np.void],
    index: npt.NDArray[np.void],
    images: ImageStore | None,
    image_index: npt.NDArray[np.void],
) -> str:
    """SHA-256 of what a file of patches says.

    Parameters
    ----------
    patches, failed, index, image_index
        `PATCH_DTYPE`, `analyses.base.FAILED_DTYPE`, `TILE_INDEX_DTYPE` and `IMAGE_INDEX_DTYPE` records.

    Returns
    -------
    str
        64 hexadecimal digits. Hashed are, each ended by a newline, the text ``pyramidai-patches-digest/1``, the quick
        hash, and as JSON the settings and how kept tiles and pictures are encoded; then for each of the four tables
        the number of its records as little-endian int64, and its bytes.
    """
    store = None if tiles is None else asdict(tiles) | {"tables": tiles.tables.hex()}
    asked = {name: None if value != value else value for name, value in asdict(settings).items()}  # NaN is no JSON
    pictures = None if images is None else asdict(images)
    lines = ["pyramidai-patches-digest/1", slide.quickhash, _json(asked), _json(store), _json(pictures), ""]
    digest = hashlib.sha256("\n".join(lines).encode())
    for table in (patches, failed, index, image_index):
        digest.update(np.int64(len(table)).astype("<i8").tobytes())
        digest.update(np.ascontiguousarray(table).view(np.uint8).data)
    return digest.hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def patch_file(slide: Path) -> str:
    """Name of the file of a slide's patches."""
    return f"{slide_stem(slide)}{ENDING}"
