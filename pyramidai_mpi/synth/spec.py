"""What a generated slide should be: size, seed, spacing, how much tumour and where."""

from __future__ import annotations

from dataclasses import dataclass

from pyramidai_mpi.base.errors import UsageError

BLOCK = 512
"""Pixels on a side of the square that is rendered at once; positions are hashed per block, so it never changes."""

MAX_SIDE = 1 << 18
"""Largest side in pixels; one block then shrinks to one pixel at the smallest stored level."""


@dataclass(frozen=True)
class Region:
    """One tumour region: an outline and its holes, rings of ``(l0_x, l0_y)`` in pixels, closed implicitly."""

    outline: tuple[tuple[float, float], ...]
    holes: tuple[tuple[tuple[float, float], ...], ...] = ()


@dataclass(frozen=True)
class SynthSpec:
    """One slide. The image is a function of these values alone, never of threads or memory.

    Parameters
    ----------
    width, height
        Size of level 0 in pixels.
    seed
        Non-negative; another seed gives other tissue, tumours and stain.
    mpp
        Spacing of level 0 in µm per pixel, 0.1 to 1; nuclei keep their size in µm.
    tumor_share
        Wanted share of the tissue's area inside tumour, 0 (none) to 0.8. Ignored when `regions` are given.
    regions
        Tumour outlines in level-0 pixels; the tissue grows to hold them. None lets the seed draw them.
    tile_size
        Side of the stored tiles, 256 or 512 pixels.
    quality
        JPEG quality, 30 to 100.
    nuclear_cue
        Whether nuclei of tumour are larger and coarser than others, as they are in tissue. False draws the nuclei of
        every tissue with one of two looks, epithelium's or tumour's, by a map that knows nothing of the tumour.

    Raises
    ------
    UsageError
        When a value is outside its range.
    """

    width: int
    height: int
    seed: int = 0
    mpp: float = 0.25
    tumor_share: float = 0.15
    regions: tuple[Region, ...] | None = None
    tile_size: int = 256
    quality: int = 80
    nuclear_cue: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (
            ("width", 64, MAX_SIDE),
            ("height", 64, MAX_SIDE),
            ("seed", 0, 2**63 - 1),
            ("mpp", 0.1, 1.0),
            ("tumor_share", 0.0, 0.8),
            ("quality", 30, 100),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"synth: {name} is {value}; give a value from {low} to {high}")
        if self.tile_size not in (256, 512):
            raise UsageError(f"synth: tile_size is {self.tile_size}; stored tiles are 256 or 512 pixels")


def parse_size(text: str) -> tuple[int, int]:
    """``"20000x15000"`` -> ``(20000, 15000)``, width first.

    Raises
    ------
    UsageError
        When the text is not two whole numbers joined by ``x``.
    """
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise UsageError(f"size {text!r} is not WIDTHxHEIGHT in pixels; write it as 20000x20000")
    return int(width), int(height)
