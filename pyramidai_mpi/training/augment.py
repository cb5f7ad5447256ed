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
_LOGARITHMS = np.log((np.arange(256, dtype=np.float64) + 1) / 256).astype(np.float32)
"""Of each grey value, the negative of its optical density; 0 of white."""
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
    # colour by colour: numpy turns planes of bytes four times as fast as pixels of three
    planes = np.empty((3, *tiles.shape[1:3]), np.uint8)
    colours = _Colours(planes.shape)
    for n, tile in enumerate(tiles):
        planes[:] = tile.transpose(2, 0, 1)
        _move(planes, changes.shift[n], float(changes.zoom[n]))
        colours.change(planes, changes.factors[n], changes.offsets[n], float(changes.light[n]))
        for channel, plane in enumerate(planes):
            out[n, ..., channel] = _oriented(plane, int(changes.orientation[n]))
    return out


def _oriented(plane: npt.NDArray[np.uint8], way: int) -> npt.NDArray[np.uint8]:
    plane = np.rot90(plane, way % 4)
    return plane[:, ::-1] if way >= 4 else plane


def _move(planes: npt.NDArray[np.uint8], shift: npt.NDArray[np.float64], zoom: float) -> None:
    """Move a tile (3, T, T) in place."""
    if zoom == 1 and not shift.any():
        return
    side = planes.shape[1]
    middle = (side - 1) / 2
    rows, cols = (
        _mirrored(np.rint(middle + (np.arange(side) - middle - round(move * side)) / zoom), side)
        for move in shift.tolist()
    )
    planes[:] = planes.take(rows, axis=1).take(cols, axis=2)


def _mirrored(places: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.int64]:
    """Pixels 0 to side - 1 for places that may lie outside; the border's own pixel is not repeated."""
    period = max(2 * (side - 1), 1)
    inside = places.astype(np.int64) % period
    return np.minimum(inside, period - inside)


class _Colours:
    """Changes the colours of tiles of a shape, (3, T, T), in memory that is taken once."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._logarithms = np.empty(shape, np.float32)
        self._sum, self._part = np.empty(shape[1:], np.float32), np.empty(shape[1:], np.float32)

    def change(
        self,
        planes: npt.NDArray[np.uint8],
        factors: npt.NDArray[np.float64],
        offsets: npt.NDArray[np.float64],
        light: float,
    ) -> None:
        """Change a tile in place: the optical density d of a pixel becomes d @ mixed + added, in float32."""
        if light == 1 and (factors == 1).all() and not offsets.any():
            return
        # elementwise: a matrix product may round by how many rows it is given
        mixed = (np.linalg.inv(STAINS) @ np.diag(factors) @ STAINS).astype(np.float32)
        added = (np.log(256 * light) - offsets @ STAINS).astype(np.float32)
        np.take(_LOGARITHMS, planes, out=self._logarithms, mode="clip")
        grey, part = self._sum, self._part
        for channel, plane in enumerate(planes):
            np.multiply(self._logarithms[0], mixed[0, channel], out=grey)
            for other in (1, 2):
                grey += np.multiply(self._logarithms[other], mixed[other, channel], out=part)
            grey += added[channel]
            np.exp(grey, out=grey)
            grey -= np.float32(0.5)  # a grey value is one less, and half a one more is cut off
            np.clip(grey, 0, 255, out=grey)
            np.copyto(plane, grey, casting="unsafe")
