"""Tiles changed at random before a network learns from them: how they lie, how they are stained, how bright they are.

Plain numpy, elementwise, tile by tile: what becomes of a tile follows to the bit from its pixels and its row of drawn
numbers, whoever computes it and beside which others.

Stain is varied as by Tellez et al., "Whole-slide mitosis detection in H&E breast histology using PHH3 as a reference to
train distilled stain-invariant convolutional networks", IEEE TMI 37(9), 2018: a pixel's optical density is taken apart
into haematoxylin, eosin and what is left, each is multiplied by a number and a number is added to it, and the pixel is
put together again. Their light variation is a strength of 0.05, their strong one 0.2. The two vectors are those of
Ruifrok and Johnston (Anal. Quant. Cytol. Histol. 23, 2001); what is left is what is perpendicular to both.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

_HAEMATOXYLIN, _EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
_DENSITIES = -np.log((np.arange(256, dtype=np.float64) + 1) / 256)
"""Natural logarithm, of each grey value; 0 of white."""
_NUMBERS = 11
"""Drawn for a tile, whichever of them are used: what is switched off changes nothing else."""
_MOST = 0.9
_MOST_SHIFT = 0.5


def _stain_vectors() -> npt.NDArray[np.float64]:
    """Optical densities of R, G, B at unit strength, float64 (3, 3): a row each for both stains and what is left."""
    two = [vector / np.linalg.norm(vector) for vector in (_HAEMATOXYLIN, _EOSIN)]
    left = np.cross(*two)
    return np.array([*two, left / np.linalg.norm(left)])


STAINS = _stain_vectors()


@dataclass(frozen=True)
class AugmentSettings:
    """How strongly tiles are changed; 0 switches off, and so does False. By default they are turned and flipped alone.

    Attributes
    ----------
    orientations
        Whether each tile lies in one of its eight orientations: four turns, each as it is or flipped.
    shift
        Largest shift along each axis, as a share of the tile's side; beyond the border tiles are mirrored.
    zoom
        Largest change of size: a factor of 1 - zoom to 1 + zoom about the tile's centre, the nearest pixel taken.
    stain_factor
        Strengths of haematoxylin, eosin and the rest are each multiplied by 1 - this to 1 + this.
    stain_offset
        To each of the three strengths -this to this is added, in units of optical density (natural logarithm).
    brightness
        Light is multiplied by 1 - this to 1 + this.

    Raises
    ------
    UsageError
        When a strength is none: shifts are at most half a tile, the others at most 0.9.
    """

    orientations: bool = True
    shift: float = 0.0
    zoom: float = 0.0
    stain_factor: float = 0.0
    stain_offset: float = 0.0
    brightness: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, most = getattr(self, field.name), _MOST_SHIFT if field.name == "shift" else _MOST
            if not (isinstance(value, bool) or 0 <= value <= most):
                raise UsageError(f"{field.name} of augmentation is {value:g}, expected a number from 0 to {most:g}")

    @property
    def colours(self) -> bool:
        """Whether colours change."""
        return bool(self.stain_factor or self.stain_offset or self.brightness)


NO_CHANGE = AugmentSettings(orientations=False)
LIGHT_STAIN = AugmentSettings(stain_factor=0.05, stain_offset=0.05)
STRONG_STAIN = AugmentSettings(stain_factor=0.2, stain_offset=0.2)


@dataclass(frozen=True)
class Changes:
    """What is done to each of n tiles.

    Attributes
    ----------
    orientation
        int64 (n,), 0 to 7: modulo 4 how many quarter turns against the clock; from 4 on, mirrored left to right then.
    shift
        float64 (n, 2), by which share of its side the tile moves down and to the right.
    zoom
        float64 (n,), how many times larger things get.
    factors, offsets
        float64 (n, 3), by what the strengths of haematoxylin, eosin and the rest are multiplied, then what is added.
    light
        float64 (n,), by what light is multiplied.
    """

    orientation: npt.NDArray[np.int64]
    shift: npt.NDArray[np.float64]
    zoom: npt.NDArray[np.float64]
    factors: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    light: npt.NDArray[np.float64]


def drawn_changes(count: int, generator: np.random.Generator, settings: AugmentSettings) -> Changes:
    """Draw what is done to so many tiles; takes the same numbers from the generator whatever the settings."""
    drawn = generator.random((count, _NUMBERS))
    signed = 2 * drawn - 1
    ways = (8 * drawn[:, 0]).astype(np.int64)
    return Changes(
        orientation=ways if settings.orientations else np.zeros_like(ways),
        shift=settings.shift * signed[:, 1:3],
        zoom=1 + settings.zoom * signed[:, 3],
        factors=1 + settings.stain_factor * signed[:, 4:7],
        offsets=settings.stain_offset * signed[:, 7:10],
        light=1 + settings.brightness * signed[:, 10],
    )


def augmented(tiles: RgbArray, generator: np.random.Generator, settings: AugmentSettings) -> RgbArray:
    """Tiles uint8 (n, T, T, 3) changed at random, the same shape; the tiles themselves stay as they are."""
    return changed(tiles, drawn_changes(len(tiles), generator, settings))


def changed(tiles: RgbArray, changes: Changes) -> RgbArray:
    """Tiles uint8 (n, T, T, 3) after these changes: their place, their colours, then their orientation."""
    out = np.empty(tiles.shape, np.uint8)
    for n, tile in enumerate(tiles):
        moved = _moved(tile, changes.shift[n], float(changes.zoom[n]))
        coloured = _coloured(moved, changes.factors[n], changes.offsets[n], float(changes.light[n]))
        out[n] = _oriented(coloured, int(changes.orientation[n]))
    return out


def _oriented(tile: RgbArray, way: int) -> RgbArray:
    tile = np.rot90(tile, way % 4)
    return tile[:, ::-1] if way >= 4 else tile


def _moved(tile: RgbArray, shift: npt.NDArray[np.float64], zoom: float) -> RgbArray:
    if zoom == 1 and not shift.any():
        return tile
    side = len(tile)
    middle = (side - 1) / 2
    rows, cols = (
        _mirrored(np.rint(middle + (np.arange(side) - middle - round(move * side)) / zoom), side)
        for move in shift.tolist()
    )
    moved: RgbArray = tile[rows[:, np.newaxis], cols]
    return moved


def _mirrored(places: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.int64]:
    """Pixels 0 to side - 1 for places that may lie outside; the border's own pixel is not repeated."""
    period = max(2 * (side - 1), 1)
    inside = places.astype(np.int64) % period
    return np.minimum(inside, period - inside)


def _coloured(
    tile: RgbArray, factors: npt.NDArray[np.float64], offsets: npt.NDArray[np.float64], light: float
) -> RgbArray:
    """Optical density d of a pixel becomes d @ mixed + added, in float32."""
    if light == 1 and (factors == 1).all() and not offsets.any():
        return tile
    # elementwise on contiguous planes: a matrix product may round by how many rows it is given
    mixed = np.linalg.inv(STAINS) @ np.diag(factors) @ STAINS
    added = offsets @ STAINS - np.log(light)
    planes = np.ascontiguousarray(tile.transpose(2, 0, 1)).astype(np.intp)
    densities = np.take(-_DENSITIES.astype(np.float32), planes)
    out = np.empty(tile.shape, np.uint8)
    for channel in range(3):
        weights = mixed[:, channel].astype(np.float32)
        sum_ = densities[0] * weights[0]
        sum_ += densities[1] * weights[1]
        sum_ += densities[2] * weights[2]
        sum_ -= np.float32(added[channel] - np.log(256))
        grey = np.exp(sum_, out=sum_)
        grey -= np.float32(1)
        out[..., channel] = np.rint(np.clip(grey, 0, 255, out=grey), out=grey)
    return out
