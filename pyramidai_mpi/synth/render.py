"""Paint one block: concentrations of the two dyes, then light through them.

A block is always the same 512 x 512 square of the slide and reads only the plan and its neighbours' shapes and nuclei,
so it comes out the same whoever asks, in any order.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.synth.maps import BlockMaps, draw_maps
from pyramidai_mpi.synth.noise import lookup, soft_step, upsample
from pyramidai_mpi.synth.nuclei import draw_nuclei
from pyramidai_mpi.synth.plan import STEP, Cytoplasm, SlidePlan
from pyramidai_mpi.synth.shapes import REACH_UM, SHAPE, Shape, draw_shapes, radius
from pyramidai_mpi.synth.spec import BLOCK
from pyramidai_mpi.synth.sprites import Nucleus, draw_sprites

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyramidai_mpi.synth.noise import F32, F64

    U8 = NDArray[np.uint8]

_CACHED_ROWS = 4
"""Rows of blocks whose maps, shapes and nuclei stay in memory, 0.25 MB a block: one is painted from three."""


class Painter:
    """Paints the blocks of one slide; safe to use from several threads."""

    def __init__(self, plan: SlidePlan) -> None:
        self._plan = plan
        self._book = draw_sprites(plan.spec.seed, plan.spec.mpp)
        cached = _CACHED_ROWS * (plan.spec.width // BLOCK + 8)
        self._maps = lru_cache(cached)(self._draw_maps)
        self._shapes = lru_cache(cached)(self._draw_shapes)
        self._nuclei = lru_cache(cached)(self._draw_nuclei)
        self.glass: U8 = np.rint(plan.stain.glass).astype(np.uint8)

    def paint(self, row: int, col: int) -> U8 | None:
        """RGB of the block at ``(row * 512, col * 512)``, uint8 (512, 512, 3); None where there is only glass."""
        if not self._plan.has_tissue(col * BLOCK, row * BLOCK, BLOCK):
            return None
        maps = self._maps(row, col)
        cover = soft_step(upsample(maps.depth, STEP), 0.0, 5.0)
        if not cover.any():
            return None
        hematoxylin, eosin = self._ground(maps, row, col)
        self._paint_shapes(hematoxylin, eosin, row, col)
        self._stamp_nuclei(hematoxylin, row, col)
        hematoxylin *= cover * upsample(maps.gain_h, STEP)
        cloudy = 1 + np.float32(0.07) * self._texture(self._plan.coarse_grain, row, col)
        eosin *= cover * upsample(maps.gain_e, STEP) * cloudy
        return self._shine(hematoxylin, eosin, row, col)

    def truth(self, row: int, col: int) -> tuple[F32, F32]:
        """Tissue (0 to 1) and tumour (0 or 1) on the 65 x 65 corners of an 8-pixel grid over a block."""
        maps = self._maps(row, col)
        return soft_step(maps.depth, 0.0, 5.0), maps.tumor

    def nuclei(self, row: int, col: int) -> list[tuple[Nucleus, F64]]:
        """Nuclei whose middle lies in a block, on tissue: kind, and outline as float64 (24, 2), l0_x and l0_y.

        The frame is that of outlines: pixel 0 reaches from 0 to 1.
        """
        if not self._plan.has_tissue(col * BLOCK, row * BLOCK, BLOCK):
            return []
        around = itertools.product(range(max(row - 1, 0), row + 2), range(max(col - 1, 0), col + 2))
        # those of a gland are drawn with the block of the gland's middle
        near = np.concatenate([self._nuclei(r, c) for r, c in around if self._has_tissue(r, c)])
        x, y = near["l0_x"] - col * BLOCK, near["l0_y"] - row * BLOCK
        here = (x >= 0) & (x < BLOCK) & (y >= 0) & (y < BLOCK)
        here &= (near["l0_x"] < self._plan.spec.width) & (near["l0_y"] < self._plan.spec.height)
        depth = lookup(self._maps(row, col).depth, STEP, x.astype(np.float64), y.astype(np.float64))
        found = near[here & (depth > 0)]
        return [
            (
                Nucleus(one["kind"]),
                self._book.outlines[one["look"]][one["sprite"]] + (one["l0_x"] + 0.5, one["l0_y"] + 0.5),
            )
            for one in found
        ]

    def _has_tissue(self, row: int, col: int) -> bool:
        return self._plan.has_tissue(col * BLOCK, row * BLOCK, BLOCK)

    def _draw_maps(self, row: int, col: int) -> BlockMaps:
        return draw_maps(self._plan, row, col)

    def _draw_shapes(self, row: int, col: int) -> NDArray[np.void]:
        if not self._plan.has_tissue(col * BLOCK, row * BLOCK, BLOCK):
            return np.zeros(0, SHAPE)
        return draw_shapes(self._plan, self._maps(row, col), row, col)

    def _shapes_around(self, row: int, col: int) -> NDArray[np.void]:
        # rows and columns beyond the slide's origin hold nothing: the counter of the stream is unsigned
        blocks = itertools.product(range(max(row - 1, 0), row + 2), range(max(col - 1, 0), col + 2))
        shapes = np.concatenate([self._shapes(r, c) for r, c in blocks])
        out: NDArray[np.void] = shapes[np.argsort(shapes["kind"], kind="stable")]
        return out

    def _draw_nuclei(self, row: int, col: int) -> NDArray[np.void]:
        around = self._shapes_around(row, col)
        return draw_nuclei(self._plan, self._book, self._maps(row, col), around, row, col)

    def _texture(self, values: F32, row: int, col: int) -> F32:
        periods = values.shape[0] // BLOCK
        r, c = row % periods * BLOCK, col % periods * BLOCK
        return values[r : r + BLOCK, c : c + BLOCK]

    def _ground(self, maps: BlockMaps, row: int, col: int) -> tuple[F32, F32]:
        """Everything without an outline: fibres, cytoplasm, the haze of small matter between cells."""
        bed = maps.tumor - maps.nest
        strands = maps.fibrous + 0.75 * bed + 0.5 * maps.glandular
        cytoplasm = self._plan.cytoplasm
        eosin_level = (
            cytoplasm.fibrous_e * (maps.fibrous + bed)
            + 0.32 * maps.lymphoid
            + 0.42 * maps.glandular
            + 0.26 * maps.fatty
            + cytoplasm.tumor_e * maps.nest
        )
        hematoxylin_level = (
            0.05 * (maps.fibrous + bed)
            + 0.16 * maps.lymphoid
            + 0.07 * maps.glandular
            + cytoplasm.tumor_h * maps.nest
            + cytoplasm.haze
        )
        strand: F32 = np.zeros((BLOCK, BLOCK), np.float32)
        for k, fibre in enumerate(self._plan.fibres):
            share = np.maximum(np.cos(2 * (maps.direction - np.float32(k * np.pi / 4))), 0)
            if share.max() > 0:
                strand += upsample(share * strands, STEP) * self._texture(fibre, row, col)
        haze = self._texture(self._plan.coarse_grain, row, col)
        grain = self._texture(self._plan.grain, row, col)
        level = upsample(eosin_level, STEP)
        eosin = level * (1 + 0.11 * haze + 0.07 * grain) + np.float32(0.11) * strand
        # gaps between bundles of fibres are glass
        eosin *= 1 - 0.75 * soft_step(-strand, 1.75, 0.4)
        hematoxylin = upsample(hematoxylin_level, STEP) * (1 + 0.18 * haze + 0.10 * grain)
        return np.maximum(hematoxylin, 0), np.maximum(eosin, 0)

    def _paint_shapes(self, hematoxylin: F32, eosin: F32, row: int, col: int) -> None:
        reach = REACH_UM / self._plan.spec.mpp
        l0_x, l0_y = col * BLOCK, row * BLOCK
        for shape in self._shapes_around(row, col):
            far = min(1.35 * float(shape["a"]), reach)
            x0, x1 = _overlap(float(shape["l0_x"]) - l0_x, far)
            y0, y1 = _overlap(float(shape["l0_y"]) - l0_y, far)
            if x0 >= x1 or y0 >= y1:
                continue
            px = np.arange(x0 + l0_x, x1 + l0_x, dtype=np.float64)[None, :]
            py = np.arange(y0 + l0_y, y1 + l0_y, dtype=np.float64)[:, None]
            rho = radius(shape, px, py).astype(np.float32)
            part = np.s_[y0:y1, x0:x1]
            # edges one µm wide
            edge = 1.0 / self._plan.spec.mpp / float(shape["b"])
            _paint_shape(shape, self._plan.cytoplasm, rho, edge, hematoxylin[part], eosin[part])

    def _stamp_nuclei(self, hematoxylin: F32, row: int, col: int) -> None:
        l0_x, l0_y, reach = col * BLOCK, row * BLOCK, self._book.reach
        for r in range(max(row - 1, 0), row + 2):
            for c in range(max(col - 1, 0), col + 2):
                if not self._plan.has_tissue(c * BLOCK, r * BLOCK, BLOCK):
                    continue
                nuclei = self._nuclei(r, c)
                x, y = nuclei["l0_x"] - l0_x, nuclei["l0_y"] - l0_y
                near = (x > -reach) & (x < BLOCK + reach) & (y > -reach) & (y < BLOCK + reach)
                columns = (x, y, nuclei["look"], nuclei["sprite"], nuclei["dye"])
                for nx, ny, look, sprite, dye in zip(*(v[near].tolist() for v in columns), strict=True):
                    _stamp(hematoxylin, self._book.pictures[look][sprite], nx, ny, dye)

    def _shine(self, hematoxylin: F32, eosin: F32, row: int, col: int) -> U8:
        """Beer-Lambert law for each colour, and the camera's noise of about one grey level."""
        stain, out = self._plan.stain, np.empty((BLOCK, BLOCK, 3), np.uint8)
        noise = self._texture(self._plan.grain, row, col)
        for channel in range(3):
            density = hematoxylin * -stain.hematoxylin[channel]
            density -= eosin * stain.eosin[channel]
            light = np.exp(density, out=density)
            light *= stain.glass[channel]
            light += (1.2 - 0.3 * channel) * noise
            out[..., channel] = np.clip(light + np.float32(0.5), 0, 255)
        return out


def _overlap(middle: float, far: float) -> tuple[int, int]:
    return max(int(middle - far), 0), min(int(middle + far) + 2, BLOCK)


def _stamp(canvas: F32, picture: F32, x: int, y: int, dye: float) -> None:
    half = picture.shape[0] // 2
    x0, y0 = x - half, y - half
    x1, y1 = x0 + picture.shape[1], y0 + picture.shape[0]
    if x1 <= 0 or y1 <= 0 or x0 >= BLOCK or y0 >= BLOCK:
        return
    if x0 < 0 or y0 < 0 or x1 > BLOCK or y1 > BLOCK:
        picture = picture[max(-y0, 0) : BLOCK - y0, max(-x0, 0) : BLOCK - x0]
        x0, y0 = max(x0, 0), max(y0, 0)
        x1, y1 = min(x1, BLOCK), min(y1, BLOCK)
    under = canvas[y0:y1, x0:x1]
    np.maximum(under, picture * np.float32(dye), out=under)


def _paint_shape(shape: np.void, cytoplasm: Cytoplasm, rho: F32, edge: float, hematoxylin: F32, eosin: F32) -> None:
    inside = soft_step(-rho, -1.0, edge)
    kind = int(shape["kind"])
    if kind == Shape.GLAND:
        # tall cells: pink towards the lumen, pale mucus at its rim, nothing inside
        hematoxylin += inside * (np.float32(cytoplasm.glandular_h + cytoplasm.haze) - hematoxylin)
        eosin += inside * (np.float32(cytoplasm.glandular_e) * (np.float32(1.12) - np.float32(0.24) * rho) - eosin)
        empty = soft_step(-rho, -float(shape["lumen"]), 1.5 * edge)
    elif kind == Shape.VESSEL:
        eosin += np.float32(0.3) * soft_step(-np.abs(rho - 1), -0.22, 0.2)
        empty = 0.9 * soft_step(-rho, -0.85, edge)
    elif kind == Shape.CRIBRIFORM:
        empty = 0.9 * inside
    else:
        empty = np.float32(0.97) * soft_step(-rho, -0.97, edge)
    hematoxylin *= 1 - empty
    eosin *= 1 - empty
