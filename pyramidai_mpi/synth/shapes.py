"""Closed shapes of 10 to 100 µm: glands with their lumen, fat cells, the holes of cribriform tumour, small vessels."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.synth.noise import Purpose, lookup, stream
from pyramidai_mpi.synth.plan import STEP, SlidePlan
from pyramidai_mpi.synth.spec import BLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyramidai_mpi.synth.maps import BlockMaps
    from pyramidai_mpi.synth.noise import F32, F64


class Shape(IntEnum):
    """Kinds of closed shapes, in the order in which they are painted: a later one covers an earlier one."""

    FAT = 0
    GLAND = 1
    CRIBRIFORM = 2
    VESSEL = 3


SHAPE = np.dtype(
    [
        ("l0_x", "f8"),
        ("l0_y", "f8"),
        ("a", "f8"),  # semi-axes, pixels
        ("b", "f8"),
        ("turn", "f8"),  # radians
        ("two", "f8"),  # amplitude and phase of the second and third harmonic of the radius
        ("two_at", "f8"),
        ("three", "f8"),
        ("three_at", "f8"),
        ("lumen", "f8"),  # radius of the lumen over that of the shape
        ("kind", "i4"),
    ]
)
"""One shape; positions and lengths in level-0 pixels."""

REACH_UM = 70.0
"""No shape reaches further than this from its centre."""

# spacing of the lattice in µm, jitter as a share of it, semi-axes in µm (least, most), wobble
_LAYOUT = {
    Shape.FAT: (64.0, 0.25, 33.0, 41.0, 0.03),
    Shape.GLAND: (118.0, 0.3, 32.0, 52.0, 0.05),
    Shape.CRIBRIFORM: (32.0, 0.5, 5.0, 11.0, 0.14),
    Shape.VESSEL: (128.0, 0.9, 7.0, 14.0, 0.08),
}


def draw_shapes(plan: SlidePlan, maps: BlockMaps, row: int, col: int) -> NDArray[np.void]:
    """Shapes whose centre lies in one block."""
    mpp = plan.spec.mpp
    rng = stream(plan.spec.seed, Purpose.SHAPES, row, col)
    parts = []
    for kind, (spacing, jitter, least, most, wobble) in _LAYOUT.items():
        per_side = max(1, round(BLOCK * mpp / spacing))
        pitch = BLOCK / per_side
        u = rng.random((12, per_side * per_side))
        k = np.arange(per_side * per_side)
        shift = 0.25 * (k // per_side % 2 * 2 - 1)  # rows offset: no chessboard
        x = (k % per_side + 0.5 + shift + jitter * (u[0] - 0.5)) * pitch % BLOCK
        y = (k // per_side + 0.5 + jitter * (u[1] - 0.5)) * pitch
        out = np.zeros(len(k), SHAPE)
        # above 0.25 µm/px a block is many µm wide; below it, large shapes would crowd one another
        room = min(1.0, pitch * mpp / spacing)
        out["a"] = (least + (most - least) * u[2]) / mpp * room
        out["b"] = out["a"] * (0.78 + 0.22 * u[3])
        out["turn"] = np.pi * u[4]
        out["two"], out["two_at"] = 2 * wobble * u[5], 2 * np.pi * u[6]
        out["three"], out["three_at"] = 1.5 * wobble * u[7], 2 * np.pi * u[8]
        out["lumen"] = 0.22 + 0.4 * u[9]
        out["l0_x"], out["l0_y"], out["kind"] = x + col * BLOCK, y + row * BLOCK, kind
        parts.append(out[_chance(kind, maps, x, y) > u[10]])
    return _clear_of_tumor(plan, np.concatenate(parts))


def _clear_of_tumor(plan: SlidePlan, shapes: NDArray[np.void]) -> NDArray[np.void]:
    """Drop glands that would reach into a tumour region: its outline is the truth."""
    glands = np.flatnonzero(shapes["kind"] == Shape.GLAND)
    keep = np.ones(len(shapes), bool)
    for k in glands:
        reach = 1.15 * shapes[k]["a"]
        corner = shapes[k]["l0_x"] - reach, shapes[k]["l0_y"] - reach
        keep[k] = not plan.outlines.mask(*corner, reach / 4, (9, 9)).any()
    return shapes[keep]


def _chance(kind: Shape, maps: BlockMaps, x: F64, y: F64) -> F32:
    glandular = lookup(maps.glandular, STEP, x, y)
    if kind is Shape.GLAND:
        return (glandular > 0.5).astype(np.float32)
    if kind is Shape.FAT:
        return lookup(maps.fatty, STEP, x, y)
    if kind is Shape.CRIBRIFORM:
        return np.float32(0.95) * lookup(maps.cribriform, STEP, x, y) * (lookup(maps.nest, STEP, x, y) > 0.9)
    return np.float32(0.3) * (1 - glandular - lookup(maps.fatty, STEP, x, y) - lookup(maps.nest, STEP, x, y))


def radius(shape: np.void, l0_x: F64, l0_y: F64) -> F64:
    """Distance from the centre over that of the outline in the same direction: 1 on the outline, any array shape."""
    dx, dy = l0_x - shape["l0_x"], l0_y - shape["l0_y"]
    cos, sin = np.cos(shape["turn"]), np.sin(shape["turn"])
    u = (dx * cos + dy * sin) / shape["a"]
    v = (dy * cos - dx * sin) / shape["b"]
    rho = np.sqrt(u * u + v * v) + 1e-6
    c, s = u / rho, v / rho
    c2, s2 = c * c - s * s, 2 * c * s
    wave = shape["two"] * (c2 * np.cos(shape["two_at"]) - s2 * np.sin(shape["two_at"]))
    c3, s3 = c * c2 - s * s2, s * c2 + c * s2
    wave = wave + shape["three"] * (c3 * np.cos(shape["three_at"]) - s3 * np.sin(shape["three_at"]))
    return rho / (1 + wave)  # type: ignore[no-any-return]


def inside_any(shapes: NDArray[np.void], l0_x: F64, l0_y: F64, margin_px: float) -> NDArray[np.bool_]:
    """Which points lie inside a shape or nearer than a margin to it."""
    out = np.zeros(l0_x.shape, bool)
    for shape in shapes:
        reach = 1.35 * shape["a"] + margin_px
        near = np.flatnonzero((np.abs(l0_x - shape["l0_x"]) < reach) & (np.abs(l0_y - shape["l0_y"]) < reach))
        if len(near):
            out[near] |= radius(shape, l0_x[near], l0_y[near]) < 1 + margin_px / shape["b"]
    return out
