"""Where everything of one slide lies: tissue, tumour, kinds of tissue, stain. Coarse maps of the whole slide.

The plan is drawn once, at one sample per 64 pixels (2.4 million samples for a 100000 x 100000 slide), then only read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.synth.noise import Field, Purpose, periodic_texture, smooth_noise, stream
from pyramidai_mpi.synth.polygons import Outlines
from pyramidai_mpi.synth.spec import Region, SynthSpec

if TYPE_CHECKING:
    from pyramidai_mpi.synth.noise import F32

COARSE = 64
"""Pixels of level 0 between samples of the coarse maps."""

STEP = 8
"""Pixels of level 0 between samples of a block's maps: 2 µm at 0.25 µm/px, finer than any boundary of tissue."""

_ISLAND_UM = 2800.0
_TUMOR_MEDIAN_UM = 420.0


@dataclass(frozen=True)
class Stain:
    """Colour of one slide: optical density of each dye per unit of concentration, and the lamp.

    Attributes
    ----------
    hematoxylin, eosin
        float32 (3,), natural optical density in red, green, blue.
    glass
        float32 (3,), intensity of empty glass, 0 to 255.
    """

    hematoxylin: F32
    eosin: F32
    glass: F32


@dataclass(frozen=True)
class Cytoplasm:
    """Concentrations of the dyes outside nuclei, drawn per slide: tumour has no colour of its own.

    Attributes
    ----------
    haze
        Haematoxylin on everything, as on a slide left in it for long.
    glandular_h, tumor_h, glandular_e, tumor_e, fibrous_e
        Haematoxylin and eosin of the cells of glands and of tumour, eosin of fibres.
    """

    haze: float
    glandular_h: float
    tumor_h: float
    glandular_e: float
    tumor_e: float
    fibrous_e: float


@dataclass(frozen=True)
class SlidePlan:
    """The coarse layout of one slide.

    Attributes
    ----------
    tissue
        Depth below the tissue's edge in µm; negative on glass.
    lymphoid, glandular, fatty, growth, crowding, direction, gain_h, gain_e
        Smooth fields of mean 0 and deviation 1 that choose the kind of tissue, the growth pattern of tumour, the
        density of cells, the run of the fibres and the local strength of each dye.
    nest, nest_fine
        Periodic fields, mean 0, deviation 1, at the scale of tumour nests.
    coarse_nuclei
        Another, which says where nuclei look like tumour's when that is no cue for tumour.
    grain, coarse_grain
        Periodic pixel textures, float32 (1024, 1024).
    fibres
        Four of them, running at 0, 45, 90 and 135 degrees.
    """

    spec: SynthSpec
    regions: tuple[Region, ...]
    outlines: Outlines
    stain: Stain
    cytoplasm: Cytoplasm
    tissue: Field
    lymphoid: Field
    glandular: Field
    fatty: Field
    growth: Field
    crowding: Field
    direction: Field
    gain_h: Field
    gain_e: Field
    nest: Field
    nest_fine: Field
    coarse_nuclei: Field
    grain: F32
    coarse_grain: F32
    fibres: tuple[F32, ...]

    def has_tissue(self, l0_x: int, l0_y: int, side: int) -> bool:
        """Whether any tissue may lie in a square (a margin of one coarse sample is included)."""
        r0, c0 = max(l0_y // COARSE - 1, 0), max(l0_x // COARSE - 1, 0)
        r1, c1 = (l0_y + side) // COARSE + 2, (l0_x + side) // COARSE + 2
        part = self.tissue.values[r0:r1, c0:c1]
        return bool(part.size and part.max() > -8.0)


def draw_plan(spec: SynthSpec) -> SlidePlan:
    """Lay out the slide of a spec."""
    shape = (spec.height // COARSE + 2, spec.width // COARSE + 2)
    um = COARSE * spec.mpp
    depth = _islands(spec, shape, um)
    if spec.regions is None:
        regions = _draw_tumors(spec, depth)
    else:
        regions = spec.regions
        mask = Outlines(regions).mask(0, 0, COARSE, shape).astype(np.float32)
        depth = np.maximum(depth, (_blur(mask, 180 / um) - np.float32(0.08)) * np.float32(500))
    rng = stream(spec.seed, Purpose.LAYOUT)

    def field(spacing_um: float) -> Field:
        values = np.float32(0.94) * smooth_noise(rng, shape, 2 * spacing_um / um)
        values += np.float32(0.34) * smooth_noise(rng, shape, 0.6 * spacing_um / um)
        return Field(values, COARSE, periodic=False)

    def texture(sigma_um: float) -> Field:
        return Field(periodic_texture(rng, 1024, sigma_um / spec.mpp / STEP), STEP, periodic=True)

    def pixels(sigma_um: float, stretch: float = 1.0, degrees: float = 0.0) -> F32:
        return periodic_texture(rng, 1024, sigma_um / spec.mpp, stretch=stretch, angle=float(np.radians(degrees)))

    return SlidePlan(
        spec=spec,
        regions=regions,
        outlines=Outlines(regions),
        stain=_draw_stain(spec),
        cytoplasm=_draw_cytoplasm(spec),
        tissue=Field(depth, COARSE, periodic=False),
        lymphoid=field(520),
        glandular=field(650),
        fatty=field(500),
        growth=field(480),
        crowding=field(260),
        direction=field(420),
        gain_h=field(1500),
        gain_e=field(1500),
        nest=texture(13),
        nest_fine=texture(4),
        coarse_nuclei=_draw_coarse_nuclei(spec),
        grain=pixels(0.35),
        coarse_grain=pixels(1.6),
        fibres=tuple(pixels(0.45, 14, degrees) + pixels(1.3, 7, degrees) for degrees in (0, 45, 90, 135)),
    )


def _draw_coarse_nuclei(spec: SynthSpec) -> Field:
    """From a stream of its own, so that slides with and without the cue are otherwise the same."""
    rng = stream(spec.seed, Purpose.LOOKS)
    return Field(periodic_texture(rng, 1024, 60 / spec.mpp / STEP), STEP, periodic=True)


def _islands(spec: SynthSpec, shape: tuple[int, int], um: float) -> F32:
    """Depth map in µm of ragged ellipses, one to each cell of a loose grid over the slide."""
    rng = stream(spec.seed, Purpose.ISLANDS)
    wide, high = spec.width * spec.mpp, spec.height * spec.mpp
    nx = int(np.clip(round(wide / _ISLAND_UM), 1, 5))
    ny = int(np.clip(round(high / _ISLAND_UM), 1, 5))
    y = (np.arange(shape[0], dtype=np.float32) * np.float32(um))[:, None]
    x = (np.arange(shape[1], dtype=np.float32) * np.float32(um))[None, :]
    depth = np.full(shape, -1e4, np.float32)
    for k in range(nx * ny):
        jx, jy, fa, fb, turn, missing = rng.random(6)
        if missing < 0.15 and k:
            continue
        cell_w, cell_h = wide / nx, high / ny
        mx = (k % nx + 0.5 + 0.14 * (jx - 0.5)) * cell_w
        my = (k // nx + 0.5 + 0.14 * (jy - 0.5)) * cell_h
        a, b = (0.36 + 0.12 * fa) * cell_w, (0.34 + 0.13 * fb) * cell_h
        shear = np.float32(0.5 * (turn - 0.5))
        u, v = (x - np.float32(mx)) / np.float32(a), (y - np.float32(my)) / np.float32(b)
        rho = np.sqrt(u * u + v * v + shear * u * v)
        np.maximum(depth, (1 - rho) * np.float32(min(a, b)), out=depth)
    size = min(wide / nx, high / ny)
    for share, amount in ((0.22, 0.09), (0.07, 0.035), (0.02, 0.008)):
        depth += smooth_noise(rng, shape, 2 * share * size / um) * np.float32(amount * size)
    return depth


def _blur(values: F32, sigma: float) -> F32:
    """Gaussian blur with a margin of glass, by FFT."""
    pad = int(3 * sigma) + 1
    padded = np.pad(values, pad)
    fy = np.fft.fftfreq(padded.shape[0])[:, None]
    fx = np.fft.rfftfreq(padded.shape[1])[None, :]
    gain = np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2))
    blurred = np.fft.irfft2(np.fft.rfft2(padded) * gain, s=padded.shape)
    return blurred[pad : pad + values.shape[0], pad : pad + values.shape[1]].astype(np.float32)


def _draw_tumors(spec: SynthSpec, depth: F32) -> tuple[Region, ...]:
    """Lobed outlines inside tissue until their share of it is reached: lesions of many sizes, as in metastasis."""
    rng = stream(spec.seed, Purpose.TUMOR)
    tissue = depth > 0
    wanted = spec.tumor_share * float(tissue.sum())
    inside = np.argwhere(depth > 40)
    if wanted < 1 or not len(inside):
        return ()
    side_um = min(spec.width, spec.height) * spec.mpp
    taken = np.zeros(depth.shape, bool)
    regions: list[Region] = []
    um = COARSE * spec.mpp
    covered = 0.0
    for _ in range(4000):
        left = (wanted - covered) * um * um
        if left < 0.02 * wanted * um * um or left < 2 * um * um:
            break
        row, col = inside[int(rng.random() * len(inside))]
        radius = min(_TUMOR_MEDIAN_UM, 0.12 * side_um) * float(np.exp(0.75 * rng.standard_normal()))
        radius = max(min(radius, 0.3 * side_um, float(np.sqrt(left / 3.0))), 45.0)
        region = _lobed_outline(rng, col * COARSE, row * COARSE, radius / spec.mpp)
        # only the part of the map around the lesion: lobes reach less than three radii
        far = int(3 * radius / um) + 2
        r0, c0 = max(int(row) - far, 0), max(int(col) - far, 0)
        near = np.s_[r0 : int(row) + far, c0 : int(col) + far]
        part = tissue[near]
        mask = Outlines([region]).mask(c0 * COARSE, r0 * COARSE, COARSE, (part.shape[0], part.shape[1]))
        area = float(mask.sum())
        if area and (mask & part).sum() >= 0.8 * area and not (mask & taken[near]).any():
            regions.append(region)
            taken[near] |= mask & part
            covered += float((mask & part).sum())
    return tuple(regions)


def _lobed_outline(rng: np.random.Generator, l0_x: float, l0_y: float, radius: float) -> Region:
    """Star-shaped ring whose radius varies by a few harmonics; it cannot cross itself."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    wave = np.zeros_like(angle)
    for k in range(2, 12):
        wave += 0.42 / k**0.9 * (rng.random() - 0.2) * np.cos(k * angle + 2 * np.pi * rng.random())
    around = radius * np.maximum(1 + wave, 0.25)
    points = np.round(np.stack([l0_x + around * np.cos(angle), l0_y + around * np.sin(angle)], axis=1), 1)
    return Region(tuple((float(px), float(py)) for px, py in points))


def _draw_stain(spec: SynthSpec) -> Stain:
    """Dyes near those of Ruifrok and Johnston (Anal Quant Cytol Histol 2001), turned and scaled a little per slide."""
    rng = stream(spec.seed, Purpose.STAIN)
    hematoxylin = np.array([0.65, 0.70, 0.29]) + 0.075 * rng.standard_normal(3)
    eosin = np.array([0.10, 0.95, 0.32]) + 0.075 * rng.standard_normal(3)
    hematoxylin *= np.exp(0.18 * rng.standard_normal()) / np.linalg.norm(hematoxylin)
    eosin *= np.exp(0.2 * rng.standard_normal()) / np.linalg.norm(eosin)
    # whole grey levels: glass within a painted block is as bright as a block of glass alone
    glass = np.rint(240 + 6 * rng.random() + 2.5 * rng.random(3))
    return Stain(
        np.maximum(hematoxylin, 0.02).astype(np.float32),
        np.maximum(eosin, 0.02).astype(np.float32),
        glass.astype(np.float32),
    )


def _draw_cytoplasm(spec: SynthSpec) -> Cytoplasm:
    u = stream(spec.seed, Purpose.STAIN, 1).random(6)
    return Cytoplasm(
        haze=0.24 * float(u[0]) ** 2,
        glandular_h=0.05 + 0.20 * float(u[1]),
        tumor_h=0.05 + 0.20 * float(u[2]),
        glandular_e=0.36 + 0.18 * float(u[3]),
        tumor_e=0.36 + 0.18 * float(u[4]),
        fibrous_e=0.42 + 0.16 * float(u[5]),
    )
