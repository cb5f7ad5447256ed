"""What patches are asked for, and how they are grouped."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.settings import check_choice

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = ("stored", "raw", "jpeg", "none")
"""What of the pixels is kept: the slide's own encoded tiles; decoded patches, as they are or as JPEG; nothing."""
DEFAULT_GROUP = 400
MOST_GROUP = (1 << 31) - 1
ENDING = ".patches.h5"
"""Of the name of a file of patches, which stands for its slide: ``STEM.patches.h5``."""
LABELS = ("normal", "tumor")
"""Labels by their numbers; what lies between the two shares has none."""
DEFAULT_WHITE_LEVEL = 200
_LARGEST_SIDE = 1 << 14
_BATCH_BYTES = 8 << 20
_MOST_IN_BATCH = 1024
_EXPECTED_PIXELS = "expected stored, raw, jpeg:Q with a quality Q of 1 to 100, such as jpeg:90, or none"
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True)
class PatchLimits:
    """What is measured of the pixels of a patch, and how much of it may be white or black.

    Attributes
    ----------
    max_white, max_black
        Greatest share of white and of black pixels, of those that lie on the slide; None for any.
    white_level
        A pixel is white whose channels are all above this, black one whose channels are all 0.
    measure
        Measure both shares, whether there is a limit or not.

    Raises
    ------
    UsageError
        When a value is none of those.
    """

    max_white: float | None = None
    max_black: float | None = None
    white_level: int = DEFAULT_WHITE_LEVEL
    measure: bool = False

    def __post_init__(self) -> None:
        for option, share in (("--max-white", self.max_white), ("--max-black", self.max_black)):
            if share is not None and not 0 <= share <= 1:
                raise UsageError(f"{option} {share:g}: expected a share in [0, 1]")
        if not 0 <= self.white_level <= 254:
            raise UsageError(f"--white-level {self.white_level}: expected 0 to 254, as channels above it are white")

    @property
    def given(self) -> bool:
        """Whether a patch may be refused for its pixels."""
        return self.max_white is not None or self.max_black is not None


@dataclass(frozen=True)
class PatchLabels:
    """How patches are labelled.

    Attributes
    ----------
    truth
        Annotations: a folder with a file a slide, or a file; None labels nothing.
    tumor_share, normal_share
        Least tumour share of a patch labelled tumour, and greatest of one labelled normal.
    only
        One of `LABELS`: only patches with this label are taken; None takes all.

    Raises
    ------
    UsageError
        When a value is none of those.
    """

    truth: Path | None = None
    tumor_share: float = 0.5
    normal_share: float = 0.0
    only: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.normal_share < self.tumor_share <= 1:
            raise UsageError(
                f"--tumor-share {self.tumor_share:g} and --normal-share {self.normal_share:g}: expected shares in "
                "[0, 1], that of tumour the larger"
            )
        if self.only is not None:
            check_choice("--only-label", self.only, LABELS)
            if self.truth is None:
                raise UsageError("--only-label needs --truth, which says what patches are")


@dataclass(frozen=True)
class PatchPlaces:
    """Where patches are to be, beside that they need tissue: of hard negatives, say.

    Attributes
    ----------
    path
        Table of places, or with `above` a result; of several slides a folder with a file each. None is everywhere.
    above
        Tiles of the result count whose score is above this; None where `path` is a table.

    Raises
    ------
    UsageError
        When a score is given without a result.
    """

    path: Path | None = None
    above: float | None = None

    def __post_init__(self) -> None:
        if self.above is not None and self.path is None:
            raise UsageError("--above needs --places, the result whose scores are meant")
        if self.above is not None and not 0 <= self.above <= 1:
            raise UsageError(f"--above {self.above:g}: expected a score in [0, 1]")

    def check_for_several(self, n_slides: int) -> None:
        """See that no single list is to count for several slides.

        Raises
        ------
        UsageError
            When one is.
        """
        if n_slides > 1 and self.path is not None and not self.path.is_dir():
            raise UsageError(f"--places {self.path}: is no folder, for {n_slides} slides; give one with a file a slide")


@dataclass(frozen=True)
class PatchOrder:
    """Which patches are asked for of every slide.

    Attributes
    ----------
    size
        Side of a patch (its window) in pixels.
    stride
        Side of a cell in pixels: the distance between neighbouring patches.
    mpp
        µm per pixel of the patches; None where `level` says it.
    level
        Stored level of the slide that patches are cut out of as they are; None where `mpp` says it.
    n_random
        How many cells are drawn of each slide, without replacement; with truth, of each label. None takes all.
    seed
        Of that choice.
    pixels
        One of `PIXELS`.
    jpeg_quality
        Of ``jpeg``, 1 to 100; 0 for the others.
    group
        Patches in a group.
    limits, labels, places
        What is measured of their pixels, how they are labelled, where they are to be.
    origins
        Table of the patient, node and centre of each slide; None takes what names of CAMELYON17 say.

    Raises
    ------
    UsageError
        When a value is none of those.
    """

    size: int
    stride: int
    mpp: float | None = None
    level: int | None = None
    n_random: int | None = None
    seed: int = 0
    pixels: str = PIXELS[0]
    group: int = DEFAULT_GROUP
    jpeg_quality: int = 0
    limits: PatchLimits = field(default_factory=PatchLimits)
    labels: PatchLabels = field(default_factory=PatchLabels)
    places: PatchPlaces = field(default_factory=PatchPlaces)
    origins: Path | None = None

    def __post_init__(self) -> None:
        for option, side in (("--size", self.size), ("--stride", self.stride)):
            if not 1 <= side <= _LARGEST_SIDE:
                raise UsageError(f"{option} {side}: expected 1 to {_LARGEST_SIDE} pixels")
        if self.size < self.stride:
            raise UsageError(
                f"--size {self.size} is below --stride {self.stride}: patches would leave out what lies between them"
            )
        if (self.size - self.stride) % 2:
            raise UsageError(
                f"--size {self.size} and --stride {self.stride} differ by an odd number of pixels, so no patch has its "
                f"cell in its middle; use --size {self.size - 1} or {self.size + 1}"
            )
        if (self.mpp is None) == (self.level is None):
            raise UsageError("give either --mpp, µm per pixel of the patches, or --level, a stored level of the slides")
        if self.mpp is not None and not (math.isfinite(self.mpp) and self.mpp > 0):
            raise UsageError(f"--mpp {self.mpp:g}: expected a number of µm per pixel above 0")
        if self.level is not None and self.level < 0:
            raise UsageError(f"--level {self.level}: expected a stored level, 0 being the finest")
        if self.n_random is not None and self.n_random < 1:
            raise UsageError(f"--sample {self.sample}: expected a number of patches above 0")
        check_choice("--pixels", self.pixels, PIXELS)
        if not (1 <= self.jpeg_quality <= 100 if self.pixels == "jpeg" else self.jpeg_quality == 0):
            raise UsageError(f"--pixels {self.pixels}: has no quality {self.jpeg_quality}; {_EXPECTED_PIXELS}")
        if not 1 <= self.group <= MOST_GROUP:
            raise UsageError(f"--group {self.group}: expected a number of patches from 1 to {MOST_GROUP}")

    @property
    def margin(self) -> int:
        """Pixels of a patch on each side of its cell."""
        return (self.size - self.stride) // 2

    @property
    def measures(self) -> bool:
        """Whether pixels are looked at: how much of each patch is white, and black."""
        return self.limits.measure or self.limits.given

    def files(self) -> dict[str, Path]:
        """Files and folders that have a say in it, by what they are given with."""
        named = {"--truth": self.labels.truth, "--places": self.places.path, "--origin": self.origins}
        return {option: path for option, path in named.items() if path is not None}

    @property
    def batch_size(self) -> int:
        """Cells that a rank takes at a time, as many as there is memory for where their pixels are decoded.

        Where stored tiles are kept, a cell is a few microseconds of work; but of slides whose tiles cannot be kept, the
        pixels are.
        """
        n_bytes = (
            _BATCH_BYTES
            if self.measures
            else {"raw": _BATCH_BYTES, "jpeg": _BATCH_BYTES, "stored": 8 * _BATCH_BYTES}.get(self.pixels)
        )
        return _MOST_IN_BATCH if n_bytes is None else min(max(n_bytes // (3 * self.size**2), 1), _MOST_IN_BATCH)

    @property
    def sample(self) -> str:
        """``dense`` or ``random:N``."""
        return "dense" if self.n_random is None else f"random:{self.n_random}"


def is_patch_file(path: str | PurePath) -> bool:
    """Whether a file is one of patches, by its name."""
    return PurePath(path).name.endswith(ENDING)


def slide_stem(name: str | PurePath) -> str:
    """What files about a slide are named after: its name without ending, or that of its file of patches without its."""
    name = PurePath(name)
    return name.name.removesuffix(ENDING) if is_patch_file(name) else name.stem


def parse_sample(word: str) -> int | None:
    """How many patches ``random:N`` says, None for ``dense``.

    Raises
    ------
    UsageError
        For anything else.
    """
    if word == "dense":
        return None
    found = re.fullmatch(r"random:(\d{1,12})", word)
    if found is None:
        raise UsageError(f"--sample {word}: expected dense or random:N, such as random:1000")
    return int(found[1])


def parse_pixels(word: str) -> tuple[str, int]:
    """Which of `PIXELS`, and the quality, ``stored``, ``raw``, ``jpeg:90`` or ``none`` say; 0 for no quality.

    Raises
    ------
    UsageError
        For anything else.
    """
    found = re.fullmatch(r"(stored|raw|none)|jpeg:(\d{1,3})", word, re.ASCII)
    if found is None or (found[2] is not None and not 1 <= int(found[2]) <= 100):
        raise UsageError(f"--pixels {word}: {_EXPECTED_PIXELS}")
    return (found[1], 0) if found[2] is None else ("jpeg", int(found[2]))


def parse_bytes(option: str, word: str) -> int:
    """Bytes of a size such as ``230MiB``, ``2G`` or ``500000``; units are powers of 1024.

    Raises
    ------
    UsageError
        When it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", word.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError(f"{option} {word}: expected a size such as 230MiB or 2GiB")
    return int(float(found[1]) * 1024 ** _UNITS[found[2].upper()])


def patches_in(n_bytes: int, size: int) -> int:
    """How many decoded patches of a side of `size` pixels fit into memory: N = floor(M / S), S = 3 * size**2.

    Raises
    ------
    UsageError
        When not even one does.
    """
    patch = 3 * size * size
    if n_bytes < patch:
        raise UsageError(f"--ram: {n_bytes} bytes hold no patch of {size} x {size} pixels, which takes {patch}")
    return n_bytes // patch


def n_groups(n_patches: int, group: int) -> int:
    """G = ceil(T / N)."""
    return -(-n_patches // group)
