"""What grows where in one block: soft maps at one sample per 8 pixels, from the plan of the slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.synth.noise import soft_step
from pyramidai_mpi.synth.plan import STEP, SlidePlan
from pyramidai_mpi.synth.spec import BLOCK

if TYPE_CHECKING:
    from pyramidai_mpi.synth.noise import F32

SIDE = BLOCK // STEP + 1


@dataclass(frozen=True)
class BlockMaps:
    """Shares of each kind of tissue in one block, float32 (65, 65) on the corners of an 8-pixel grid.

    Attributes
    ----------
    depth
        µm below the tissue's edge.
    tumor
        1 inside a tumour region.
    lymphoid, glandular, fatty, fibrous
        Kinds of normal tissue; they and `tumor` add up to 1.
    nest
        Nests of tumour cells (0 outside tumour).
    follicle
        Germinal centres: the part of `lymphoid` with larger, paler cells.
    cribriform
        Pattern of growth: nests with holes.
    density
        Crowding of cells, 0.6 to 1.1.
    direction
        Run of the fibres, radians.
    gain_h, gain_e
        Strength of the dyes, about 1.
    """

    depth: F32
    tumor: F32
    lymphoid: F32
    glandular: F32
    fatty: F32
    fibrous: F32
    nest: F32
    follicle: F32
    cribriform: F32
    density: F32
    direction: F32
    gain_h: F32
    gain_e: F32


def draw_maps(plan: SlidePlan, row: int, col: int) -> BlockMaps:
    """Maps of the block at ``(row * 512, col * 512)``."""
    l0_x, l0_y = col * BLOCK, row * BLOCK
    at = (l0_x, l0_y, STEP, SIDE)
    tumor = plan.outlines.mask(l0_x, l0_y, STEP, (SIDE, SIDE)).astype(np.float32)
    fine = plan.nest_fine.samples(*at)
    normal: F32 = np.float32(1) - tumor
    fatty = soft_step(plan.fatty.samples(*at) + 0.1 * fine, 1.35, 0.12) * normal
    glandular = soft_step(plan.glandular.samples(*at) + 0.06 * fine, 0.30, 0.12) * (normal - fatty)
    other: F32 = normal - fatty - glandular
    lymphoid = soft_step(plan.lymphoid.samples(*at) + 0.12 * fine, -0.1, 0.3) * other
    growth = plan.growth.samples(*at)
    noise = plan.nest.samples(*at)
    cords = soft_step(growth, -0.45, 0.15)
    solid = soft_step(noise + 0.22 * fine, -0.45, 0.25)
    thin = 1 - soft_step(np.abs(noise + 0.15 * fine), 0.55, 0.2)
    nest = (cords * solid + (1 - cords) * thin) * tumor
    return BlockMaps(
        depth=plan.tissue.samples(*at) + 2.5 * fine,
        tumor=tumor,
        lymphoid=lymphoid,
        glandular=glandular,
        fatty=fatty,
        fibrous=np.maximum(other - lymphoid, 0),
        nest=nest,
        follicle=lymphoid * soft_step(np.abs(growth), 0.95, 0.15),
        cribriform=soft_step(growth, 0.35, 0.2) * tumor,
        density=np.clip(0.85 + 0.14 * plan.crowding.samples(*at), 0.55, 1.1),
        direction=plan.direction.samples(*at) * np.float32(1.6),
        gain_h=np.exp(0.10 * plan.gain_h.samples(*at) + 0.07 * plan.crowding.samples(*at)),
        gain_e=np.exp(0.14 * plan.gain_e.samples(*at)),
    )
