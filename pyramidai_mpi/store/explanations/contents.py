"""What a file of explanations says, and its digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.results.result import Execution, ModelRecord, SlideRecord

FORMAT = "pyramidai-explanation"
FORMAT_VERSION = 1
ENDING = ".explained.h5"

CURVES = ("deletion", "insertion", "random_deletion", "random_insertion")
"""Tables of the class's score while a tile's pixels are deleted, or inserted, in the order of its map and of a random
one."""

TABLES = ("index", "coords", "l0_side", "probability", "map", "repeatability", *CURVES)
"""Tables of a file's group ``tiles``, in the order in which the digest takes them."""


@dataclass(frozen=True)
class ExplainedTiles:
    """Tiles with their maps, in row-major order.

    Attributes
    ----------
    index
        uint32 (N, 2): col, row in the level's grid.
    l0_coords
        int64 (N, 2): l0_x, l0_y of the window's top-left corner.
    l0_side
        int64 (N,): the window's side in level-0 pixels.
    probability
        float32 (N, C), of all classes; NaN where the tile is unreadable.
    maps
        float32 (N, h, w): more speaks more for the class; NaN where the tile is unreadable.
    repeatability
        float32 (N,): correlation to be expected with a map of as many other masks, see `perturbation.split_half`; NaN
        where there is no chance in the method.
    deletion, insertion, random_deletion, random_insertion
        float32 (N, S+1): the class's score after each step, of the map and of a random one; NaN where the tile is
        unreadable, (N, 0) where nobody asked for them.
    """

    index: npt.NDArray[np.uint32]
    l0_coords: npt.NDArray[np.int64]
    l0_side: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32]
    repeatability: npt.NDArray[np.float32]
    deletion: npt.NDArray[np.float32]
    insertion: npt.NDArray[np.float32]
    random_deletion: npt.NDArray[np.float32]
    random_insertion: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def has_curves(self) -> bool:
        """Whether deletion and insertion were asked for."""
        return bool(self.deletion.shape[1])

    def areas(self) -> dict[str, npt.NDArray[np.float64]]:
        """Area under each curve over the share of pixels, 0 to 1, by the trapezoidal rule: float64 (N,) by name.

        Of a good map that under deletion is smaller than the random one's, and that under insertion greater (Petsiuk
        et al., RISE, BMVC 2018). Empty where nobody asked for the curves.
        """
        if not self.has_curves:
            return {}
        curves = {name: getattr(self, name).astype(np.float64) for name in CURVES}
        return {name: (curve[:, 1:] + curve[:, :-1]).mean(axis=1) / 2 for name, curve in curves.items()}

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """The tables of the file, by name, in the file's types."""
        names = {"coords": "l0_coords", "map": "maps"}
        dtypes = {"index": "<u4", "coords": "<i8", "l0_side": "<i8"}
        return {
            name: np.ascontiguousarray(getattr(self, names.get(name, name)), dtypes.get(name, "<f4")) for name in TABLES
        }


@dataclass(frozen=True)
class Explanation:
    """Everything that a file of explanations holds.

    Attributes
    ----------
    slide, model
        What was explained: the slide, and the network of one level of the model.
    method
        Name of the method, as ``gradcam``.
    class_name
        The class that the maps speak for, one of the model's.
    level
        Level of the model.
    layer
        Where in the network the maps were taken; empty for methods that look at none.
    downsample
        Level-0 pixels per pixel of the level.
    settings
        All that decides the maps beside these, as JSON has it: numbers of masks and steps, the seed, which tiles.
    tiles
        The tiles with their maps.
    failed
        `base.types.FAILED_DTYPE` records of the unreadable ones, row-major.
    execution
        How the explanation came about; no part of the digest.
    digest, software_version, created
        Of a file that was read: what it claims; the version of the program that wrote it, and when, in ISO 8601.
    """

    slide: SlideRecord
    model: ModelRecord
    method: str
    class_name: str
    level: int
    layer: str
    downsample: float
    settings: Mapping[str, Any]
    tiles: ExplainedTiles
    failed: npt.NDArray[np.void]
    execution: Execution = field(compare=False)
    digest: str = ""
    software_version: str = ""
    created: str = ""

    @property
    def class_column(self) -> int:
        """Column of the class among the probabilities."""
        return self.model.classes.index(self.class_name)

    @property
    def score(self) -> npt.NDArray[np.float32]:
        """float32 (N,): probability of the class that was explained; NaN where unreadable."""
        return self.tiles.probability[:, self.class_column]

    @property
    def is_signed(self) -> bool:
        """Whether parts of the maps speak against the class."""
        return bool((self.tiles.maps < 0).any())

    @property
    def settings_text(self) -> str:
        """The settings as JSON, the same for the same settings."""
        return json.dumps(self.settings, sort_keys=True, separators=(",", ":"), allow_nan=False)


def explanation_digest(explanation: Explanation) -> str:
    """SHA-256 of what a file of explanations says, equal for any ranks and kills.

    Returns
    -------
    str
        64 hexadecimal digits. Hashed are, each ended by a newline, the text ``pyramidai-explanation-digest/1``, the
        slide's quick hash, the hash of the level's network, and as a line of JSON method, class, level, layer,
        downsample and settings; then of each of `TABLES`, and of the failed tiles, its shape as little-endian int64,
        and its bytes.
    """
    said = [
        explanation.method,
        explanation.class_name,
        explanation.level,
        explanation.layer,
        float(explanation.downsample),
        explanation.settings,
    ]
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    network = explanation.model.level_sha256[explanation.level]
    lines = ["pyramidai-explanation-digest/1", explanation.slide.quickhash, network, text, ""]
    digest = hashlib.sha256("\n".join(lines).encode())
    for table in (*explanation.tiles.tables().values(), explanation.failed):
        digest.update(np.asarray(table.shape, "<i8").tobytes())
        digest.update(np.ascontiguousarray(table).tobytes())
    return digest.hexdigest()


def explained_file(folder: Path, stem: str) -> Path:
    """The file of explanations of a slide in a folder."""
    return folder / f"{stem}{ENDING}"
