"""Stain normalisation: a slide's colours brought to those that a network was trained on, pixel by pixel.

Both methods come down to one map of a pixel's three values v, the same for the whole slide, or of each tile for all of
the tile::

    outer @ exp(inner @ log(first @ (v + 1)) + shift) + offset

Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009: in optical density a
pixel is a mixture of two stains; the slide's two vectors and their strengths are replaced by the target's.
Reinhard et al., "Color transfer between images", IEEE CG&A 21(5), 2001: in the logarithmic colour space l-alpha-beta,
mean and standard deviation are replaced by the target's.

`models.stain.graph` is this map as an ONNX graph, `models.stain.engine` runs it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

Triple: TypeAlias = tuple[float, float, float]
Matrix: TypeAlias = tuple[Triple, Triple, Triple]

LIGHT = 240.0
"""Grey value of unstained glass, for optical densities; of Macenko's own implementation, like what follows."""
LEAST_DENSITY = 0.15
"""Pixels with any channel of less optical density (natural logarithm) are not stained."""
_DENSITIES = -np.log((np.arange(256, dtype=np.float64) + 1) / LIGHT)
"""Of each grey value: looked up they take a sixteenth of the time, and are the same to the bit."""
_LIGHTEST = int(np.count_nonzero(_DENSITIES >= LEAST_DENSITY))
"""The first grey value that is not stained."""
_PERCENTILE = 1.0
"""Of angles and, from above, of strengths: extremes that noise does not decide."""
_LEAST_PIXELS = 1000
_LEAST_ANGLE = np.deg2rad(5.0)
"""Between the two stains; where there is only one, the map would blow up its noise."""

# Reinhard et al. 2001, equations 4 and 6
_LMS_OF_RGB = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_LAB_OF_LOG_LMS = np.diag(1 / np.sqrt([3.0, 6.0, 2.0])) @ np.array(
    [[1.0, 1.0, 1.0], [1.0, 1.0, -2.0], [1.0, -1.0, 0.0]]
)


class StainError(InputError):
    """Pixels whose stain cannot be estimated. Names no slide."""


@dataclass(frozen=True)
class MacenkoTarget:
    """What colours are brought to.

    Attributes
    ----------
    hematoxylin, eosin
        Optical density of R, G, B at unit strength.
    strengths
        99th percentile of both stains' strengths.
    """

    hematoxylin: Triple = (0.5626, 0.7201, 0.4062)
    eosin: Triple = (0.2159, 0.8012, 0.5581)
    strengths: tuple[float, float] = (1.9705, 1.0308)


@dataclass(frozen=True)
class ReinhardTarget:
    """Mean and standard deviation of l, alpha, beta (logarithms to base 10 of values (v + 1) / 256) to be reached."""

    mean: Triple
    std: Triple


StainTarget: TypeAlias = MacenkoTarget | ReinhardTarget


@dataclass(frozen=True)
class StainMap:
    """The map of one slide, or of one tile (see the head of this module).

    Attributes
    ----------
    first, inner, outer
        3 x 3.
    shift, offset
        Three numbers, and one.
    """

    first: Matrix
    inner: Matrix
    shift: Triple
    outer: Matrix
    offset: float

    @property
    def mixes_channels(self) -> bool:
        """Whether `first` and `outer` are more than a factor for each channel."""
        matrices = (np.array(self.first), np.array(self.outer))
        return self.offset != 0 or any(np.count_nonzero(m - np.diag(np.diagonal(m))) for m in matrices)

    def to_json(self) -> str:
        """All numbers, exactly."""
        return json.dumps([self.first, self.inner, self.shift, self.outer, self.offset])

    @classmethod
    def from_json(cls, text: str) -> StainMap:
        """Inverse of `to_json`."""
        first, inner, shift, outer, offset = json.loads(text)
        return cls(_matrix(first), _matrix(inner), _triple(shift), _matrix(outer), float(offset))


def estimate(pixels: RgbArray, target: StainTarget) -> StainMap:
    """The map that brings the colours of a slide, or of a tile, to the target's.

    Parameters
    ----------
    pixels
        uint8 (n, 3), from all over the slide, or all of the tile; those without stain are left out.

    Raises
    ------
    StainError
        When too few pixels are stained, or with one stain only.
    """
    stained, densities = _stained(pixels)
    if isinstance(target, MacenkoTarget):
        return _macenko_map(_macenko_colours(densities), target)
    return _reinhard_map(_reinhard_colours(stained), target)


def colours_of(pixels: RgbArray, method: str) -> StainTarget:
    """A slide's own colours, for others to be brought to; parameters and errors as of `estimate`.

    Parameters
    ----------
    pixels
        See `estimate`.
    method
        ``macenko`` or ``reinhard``.
    """
    stained, densities = _stained(pixels)
    return _macenko_colours(densities) if method == "macenko" else _reinhard_colours(stained)


def _no_stain(why: str) -> StainError:
    return StainError(f"its stain cannot be estimated: {why}")


def _stained(pixels: RgbArray) -> tuple[RgbArray, npt.NDArray[np.float64]]:
    """The stained ones among pixels (n, 3), and their optical densities."""
    red, green, blue = (pixels[:, channel] < _LIGHTEST for channel in range(3))
    stained = np.compress(red & green & blue, pixels, axis=0)
    if len(stained) < _LEAST_PIXELS:
        raise _no_stain(f"{len(stained)} stained pixels in its tissue are too few, it takes {_LEAST_PIXELS}")
    return stained, _DENSITIES.take(stained)


def stain_vectors(densities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Hematoxylin and eosin, unit vectors (2, 3), of stained pixels' optical densities (n, 3).

    Macenko et al. 2009, section 2: the extremes of the angle in the plane of the two largest principal components.
    """
    _, components = np.linalg.eigh(np.cov(densities.T))
    plane = components[:, 1:]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)  # the sign of an eigenvector means nothing
    along = densities @ plane
    # angles from the mean direction: pixels lie within a quarter turn of it, so none wraps round
    middle = np.arctan2(along[:, 0].mean(), along[:, 1].mean())
    angle = np.arctan2(along[:, 0], along[:, 1]) - middle
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    extremes = np.percentile(angle, [_PERCENTILE, 100 - _PERCENTILE]) + middle
    vectors = np.asarray(np.stack([np.sin(extremes), np.cos(extremes)], axis=1) @ plane.T)
    return vectors if vectors[0, 0] > vectors[1, 0] else vectors[::-1]  # hematoxylin takes more red


def _macenko_colours(densities: npt.NDArray[np.float64]) -> MacenkoTarget:
    vectors = stain_vectors(densities)
    angle = np.arccos(np.clip(vectors[0] @ vectors[1], -1, 1))
    if not angle >= _LEAST_ANGLE:
        raise _no_stain(f"its two stains are {np.rad2deg(angle):.1f} degrees apart, too alike to tell")
    strengths = np.percentile(densities @ np.linalg.pinv(vectors.T).T, 100 - _PERCENTILE, axis=0)
    if not (strengths > 0).all():
        raise _no_stain("its stains have no strength")
    return MacenkoTarget(_triple(vectors[0]), _triple(vectors[1]), (float(strengths[0]), float(strengths[1])))


def _macenko_map(own: MacenkoTarget, target: MacenkoTarget) -> StainMap:
    separate = np.linalg.pinv(np.array([own.hematoxylin, own.eosin]).T)  # (2, 3): strengths from densities
    scale = np.array(target.strengths) / own.strengths
    wanted = np.array([target.hematoxylin, target.eosin]).T * scale
    identity = np.eye(3)
    return StainMap(
        first=_matrix(identity / LIGHT),
        inner=_matrix(wanted @ separate),
        shift=(0.0, 0.0, 0.0),
        outer=_matrix(identity * LIGHT),
        offset=0.0,
    )


def lab_of(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """l, alpha, beta, float64 (n, 3), of values (n, 3)."""
    lms = ((pixels.astype(np.float64) + 1) / 256) @ _LMS_OF_RGB.T
    return np.asarray(np.log10(lms) @ _LAB_OF_LOG_LMS.T)


def _reinhard_colours(pixels: RgbArray) -> ReinhardTarget:
    lab = lab_of(pixels)
    std = lab.std(axis=0)
    if not (std > 1e-6).all():
        raise _no_stain("its tissue has one colour only")
    return ReinhardTarget(_triple(lab.mean(axis=0)), _triple(std))


def _reinhard_map(own: ReinhardTarget, target: ReinhardTarget) -> StainMap:
    scale = np.array(target.std) / own.std
    back = np.linalg.inv(_LAB_OF_LOG_LMS)
    return StainMap(
        first=_matrix(_LMS_OF_RGB / 256),
        inner=_matrix(back @ np.diag(scale) @ _LAB_OF_LOG_LMS),
        shift=_triple(np.log(10) * back @ (np.array(target.mean) - scale * own.mean)),
        outer=_matrix(np.linalg.inv(_LMS_OF_RGB) * 256),
        offset=-1.0,
    )


def _triple(values: npt.ArrayLike) -> Triple:
    a, b, c = np.asarray(values, np.float64).tolist()
    return (a, b, c)


def _matrix(values: npt.ArrayLike) -> Matrix:
    a, b, c = np.asarray(values, np.float64)
    return (_triple(a), _triple(b), _triple(c))
