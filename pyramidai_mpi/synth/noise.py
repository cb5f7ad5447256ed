"""Random numbers and smooth random fields that depend on a position and a seed, on nothing else.

Philox is counter-based: the stream of one block is found without drawing those before it (Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3", SC 2011). That is why bands of any height and any number of threads join without
a seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]


class Purpose(IntEnum):
    """What a random stream is for; two purposes never share numbers."""

    TEXTURE = 1
    ISLANDS = 2
    LAYOUT = 3
    TUMOR = 4
    STAIN = 5
    SPRITES = 6
    SHAPES = 7
    NUCLEI = 8
    LOOKS = 9


def stream(seed: int, purpose: Purpose, i: int = 0, j: int = 0) -> np.random.Generator:
    """Return the generator of one (purpose, i, j), the same on every call."""
    counter = np.array([0, i, j, int(purpose)], np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=np.array([seed, 0], np.uint64)))


@dataclass(frozen=True)
class Field:
    """A smooth scalar field, sampled every `texel` pixels of level 0 and bilinear in between.

    Attributes
    ----------
    values
        float32 (rows, columns); sample ``[r, c]`` lies at ``(l0_x, l0_y) = (c * texel, r * texel)``.
    texel
        Pixels between samples; a divisor of the block.
    periodic
        Repeats beyond its samples; otherwise the border goes on for ever.
    """

    values: F32
    texel: int
    periodic: bool

    def _wrap(self, index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        return index % size if self.periodic else np.clip(index, 0, size - 1)

    def samples(self, l0_x: int, l0_y: int, step: int, count: int) -> F32:
        """Field on a square grid: ``count`` x ``count`` values every ``step`` pixels from (l0_x, l0_y)."""
        rows, fy = self._lerp(l0_y, step, count)
        cols, fx = self._lerp(l0_x, step, count)
        low = self.values[self._wrap(rows, self.values.shape[0])]
        high = self.values[self._wrap(rows + 1, self.values.shape[0])]
        lines = low + (high - low) * fy[:, None]
        left = lines[:, self._wrap(cols, self.values.shape[1])]
        right = lines[:, self._wrap(cols + 1, self.values.shape[1])]
        out: F32 = left + (right - left) * fx[None, :]
        return out

    def _lerp(self, start: int, step: int, count: int) -> tuple[NDArray[np.int64], F32]:
        position = start + step * np.arange(count, dtype=np.int64)
        return position // self.texel, ((position % self.texel) / self.texel).astype(np.float32)


def upsample(coarse: F32, factor: int) -> F32:
    """Bilinear enlargement of ``(n + 1, n + 1)`` corner samples to ``(n * factor, n * factor)`` pixels."""
    n = coarse.shape[0] - 1
    t = (np.arange(factor, dtype=np.float32) / np.float32(factor))[None, :, None]
    lines = (coarse[:-1, None, :] + (coarse[1:] - coarse[:-1])[:, None, :] * t).reshape(n * factor, n + 1)
    step = (lines[:, 1:] - lines[:, :-1])[:, :, None]
    out: F32 = (lines[:, :-1, None] + step * t.reshape(1, 1, factor)).reshape(n * factor, n * factor)
    return out


def lookup(coarse: F32, texel: int, x: F64, y: F64) -> F32:
    """Nearest sample of a block's ``(n + 1, n + 1)`` grid at block coordinates (pixels), any shape."""
    top = coarse.shape[0] - 1
    col = np.clip(np.rint(x / texel).astype(np.int64), 0, top)
    row = np.clip(np.rint(y / texel).astype(np.int64), 0, top)
    out: F32 = coarse[row, col]
    return out


def soft_step(value: F32, edge: float, width: float) -> F32:
    """0 below the edge, 1 above it, linear over `width` around it."""
    out: F32 = np.clip((value - np.float32(edge)) * np.float32(1 / width) + np.float32(0.5), 0, 1)
    return out


def periodic_texture(
    rng: np.random.Generator, size: int, sigma: float, *, stretch: float = 1.0, angle: float = 0.0
) -> F32:
    """Gaussian noise of mean 0 and deviation 1, low-passed, without a seam at its border.

    Parameters
    ----------
    size
        Side of the square, in samples.
    sigma
        Deviation of the smoothing Gaussian across, in samples.
    stretch, angle
        The Gaussian is `stretch` times longer along `angle` (radians): fibres.
    """
    fy = np.fft.fftfreq(size)[:, None]
    fx = np.fft.rfftfreq(size)[None, :]
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = fy * np.cos(angle) - fx * np.sin(angle)
    gain = np.exp(-2 * (np.pi * sigma) ** 2 * ((along * stretch) ** 2 + across**2))
    gain[0, 0] = 0
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * gain, s=(size, size))
    out: F32 = (noise / noise.std()).astype(np.float32)
    return out


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], wavelength: float) -> F32:
    """Gaussian noise of mean 0 and deviation 1 on any grid, features about `wavelength` samples wide."""
    sigma = wavelength / 5
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.fftfreq(shape[1])[None, :]
    gain = np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2))
    # scaled by the filter's own gain, not by the sample: a slide smaller than a feature gets one value of it
    gain /= np.sqrt(np.mean(gain**2))
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * gain[:, : shape[1] // 2 + 1]
    out: F32 = np.fft.irfft2(spectrum, s=shape).astype(np.float32)
    return out
