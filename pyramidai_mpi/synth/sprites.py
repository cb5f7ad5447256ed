"""Pictures of single nuclei: concentration of haematoxylin, drawn once per slide and stamped many times.

Sizes in µm after the usual ranges of histology: lymphocytes 6-8, blasts of germinal centres 8-10, fibroblasts 10-16
long and 3 wide, epithelium 7-9, carcinoma 8-14 with irregular outline, coarse chromatin and nucleoli.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.synth.noise import Purpose, periodic_texture, stream

if TYPE_CHECKING:
    from pyramidai_mpi.synth.noise import F32, F64

TURNS = 16
"""Directions in half a turn for which long nuclei are drawn."""


class Nucleus(IntEnum):
    """Kinds of nuclei."""

    LYMPHOCYTE = 0
    SPINDLE = 1
    EPITHELIAL = 2
    TUMOR = 3
    BLAST = 4


_CLUMP_STEP_UM = 0.2
"""Grid of the chromatin texture, finer than a pixel."""

_OUTLINE_POINTS = 24


@dataclass(frozen=True)
class _Look:
    """Ranges of one kind: long diameter (µm), width over length, wobble, dye, chromatin contrast, rim."""

    length: tuple[float, float]
    aspect: tuple[float, float]
    wobble: float
    dye: tuple[float, float]
    clumps: float
    rim: float
    variants: int


_LOOKS = {
    Nucleus.LYMPHOCYTE: _Look((5.8, 7.6), (0.85, 1.0), 0.02, (1.0, 1.35), 0.16, 0.05, 6),
    Nucleus.SPINDLE: _Look((9.0, 16.0), (0.20, 0.34), 0.03, (0.8, 1.2), 0.12, 0.0, 6),
    Nucleus.EPITHELIAL: _Look((7.2, 9.2), (0.6, 0.8), 0.02, (0.85, 1.15), 0.14, 0.15, 6),
    Nucleus.TUMOR: _Look((8.0, 14.0), (0.62, 0.98), 0.07, (0.5, 1.1), 0.34, 0.30, 16),
    Nucleus.BLAST: _Look((7.6, 9.8), (0.82, 1.0), 0.02, (0.55, 0.95), 0.22, 0.18, 8),
}


@dataclass(frozen=True)
class SpriteBook:
    """Sprites of every kind, by ``[kind][variant * TURNS + turn]``.

    Attributes
    ----------
    pictures
        Haematoxylin, float32 squares of odd side.
    outlines
        Where it has fallen to half, float32 (24, 2): x, y in pixels from the middle of the square.
    reach
        Pixels from a nucleus' middle beyond which none paints.
    """

    pictures: tuple[tuple[F32, ...], ...]
    outlines: tuple[tuple[F32, ...], ...]
    reach: int

    def count(self, kind: Nucleus) -> int:
        """Variants of a kind, each drawn in every direction."""
        return len(self.pictures[kind]) // TURNS


def draw_sprites(seed: int, mpp: float) -> SpriteBook:
    """Draw the nuclei of one slide at its spacing (µm per pixel)."""
    pictures, outlines = [], []
    for kind, look in _LOOKS.items():
        drawn = _draw(stream(seed, Purpose.SPRITES, int(kind)), look, mpp)
        pictures.append(tuple(picture for picture, _ in drawn))
        outlines.append(tuple(outline for _, outline in drawn))
    reach = max(picture.shape[0] for book in pictures for picture in book) // 2 + 1
    return SpriteBook(tuple(pictures), tuple(outlines), reach)


def _draw(rng: np.random.Generator, look: _Look, mpp: float) -> list[tuple[F32, F32]]:
    book: list[tuple[F32, F32]] = []
    for _ in range(look.variants):
        length = look.length[0] + (look.length[1] - look.length[0]) * rng.random()
        aspect = look.aspect[0] + (look.aspect[1] - look.aspect[0]) * rng.random()
        dye = look.dye[0] + (look.dye[1] - look.dye[0]) * rng.random()
        waves = [(k, look.wobble * 2 / k * rng.standard_normal(), 2 * np.pi * rng.random()) for k in (2, 3, 4, 5)]
        chromatin = periodic_texture(rng, 64, 0.5 / _CLUMP_STEP_UM)
        nucleoli = rng.random((1 + int(2 * rng.random()), 2)) - 0.5
        half = int(np.ceil(length / 2 * 1.35 / mpp)) + 1
        py, px = np.mgrid[-half : half + 1, -half : half + 1] * mpp
        for turn in range(TURNS):
            angle = np.pi * turn / TURNS
            u = (px * np.cos(angle) + py * np.sin(angle)) / (length / 2)
            v = (py * np.cos(angle) - px * np.sin(angle)) / (length / 2 * aspect)
            rho = np.hypot(u, v)
            theta = np.arctan2(v, u)
            rho = rho / _wavy(theta, waves)
            # the edge is one optical resolution wide, about 0.45 µm, whatever the nucleus
            body = np.clip((1 - rho) * (length / 2 * np.sqrt(aspect)) / 0.45 + 0.5, 0, 1)
            across = np.rint(np.stack([u, v * aspect]) * (length / 2) / _CLUMP_STEP_UM).astype(np.int64)
            clumps = chromatin[across[0] % 64, across[1] % 64]
            picture = dye * (1 - look.rim * 0.9 + look.clumps * clumps)
            picture = picture + look.rim * 1.5 * dye * np.exp(-(((1 - rho) / 0.2) ** 2))
            if look.rim > 0.2:
                for nx, ny in nucleoli:
                    spot = ((u - 0.8 * nx) ** 2 + ((v - 0.8 * ny) * aspect) ** 2) * (length / 2) ** 2
                    picture = picture + 0.7 * np.exp(-spot / 0.7)
            outline = _outline(length / 2 / mpp, aspect, waves, angle)
            book.append(((np.maximum(picture, 0.05) * body).astype(np.float32), outline))
    return book


def _wavy(theta: F64, waves: list[tuple[int, float, float]]) -> F64:
    out = np.ones_like(theta)
    for k, weight, at in waves:
        out += weight * np.cos(k * theta + at)
    return out


def _outline(half_length: float, aspect: float, waves: list[tuple[int, float, float]], angle: float) -> F32:
    """The ring at which `_draw` has half of its `body`."""
    theta: F64 = np.linspace(0, 2 * np.pi, _OUTLINE_POINTS, endpoint=False)
    along = half_length * _wavy(theta, waves) * np.cos(theta)
    across = half_length * aspect * _wavy(theta, waves) * np.sin(theta)
    x = along * np.cos(angle) - across * np.sin(angle)
    y = along * np.sin(angle) + across * np.cos(angle)
    return np.stack([x, y], axis=1).astype(np.float32)
