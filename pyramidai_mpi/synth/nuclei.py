"""Where the nuclei lie: jittered lattices thinned by the kind of tissue, and rings in the walls of glands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.synth.noise import Purpose, lookup, soft_step, stream
from pyramidai_mpi.synth.plan import STEP, SlidePlan
from pyramidai_mpi.synth.shapes import Shape, inside_any
from pyramidai_mpi.synth.spec import BLOCK
from pyramidai_mpi.synth.sprites import TURNS, Nucleus, SpriteBook

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyramidai_mpi.synth.maps import BlockMaps
    from pyramidai_mpi.synth.noise import F32, F64

NUCLEUS = np.dtype([("l0_x", "i8"), ("l0_y", "i8"), ("kind", "i4"), ("look", "i4"), ("sprite", "i4"), ("dye", "f4")])
"""One nucleus: centre in level-0 pixels; what it is; the kind it looks like, which is the same where size and chromatin
tell of tumour; index into the sprites of that kind; strength of its dye."""

# spacing of the lattice in µm and jitter as a share of it: neighbours of one kind touch, as in tissue
_LATTICE = {
    Nucleus.LYMPHOCYTE: (7.3, 0.75),
    Nucleus.SPINDLE: (14.0, 0.95),
    Nucleus.TUMOR: (9.6, 0.8),
    Nucleus.BLAST: (9.4, 0.7),
}
_RING_SPACING_UM = 6.6


def draw_nuclei(
    plan: SlidePlan, book: SpriteBook, maps: BlockMaps, around: NDArray[np.void], row: int, col: int
) -> NDArray[np.void]:
    """Nuclei that belong to one block: lattice points inside it and the rings of the glands centred in it.

    Parameters
    ----------
    around
        Shapes of this block and its eight neighbours, which lattice nuclei keep out of.
    """
    rng = stream(plan.spec.seed, Purpose.NUCLEI, row, col)
    parts = [_lattice(rng, plan, book, kind, maps, around, row, col) for kind in _LATTICE]
    own = around[(around["kind"] == Shape.GLAND) & (around["l0_x"] // BLOCK == col) & (around["l0_y"] // BLOCK == row)]
    parts += [_ring(rng, plan, book, gland) for gland in own]
    found = np.concatenate(parts)
    if not plan.spec.nuclear_cue:
        _look_elsewhere(found, plan, book, row, col)
    return found


def _look_elsewhere(found: NDArray[np.void], plan: SlidePlan, book: SpriteBook, row: int, col: int) -> None:
    """Give nuclei the look of epithelium or tumour, whatever they are, by a map that does not know the tumour."""
    u = stream(plan.spec.seed, Purpose.LOOKS, row + 1, col).random((2, len(found)))
    field = plan.coarse_nuclei.samples(col * BLOCK, row * BLOCK, STEP, BLOCK // STEP + 1)
    share = soft_step(field, 0.0, 1.5)
    x, y = (found[name] - at * BLOCK for name, at in (("l0_x", col), ("l0_y", row)))
    is_coarse = lookup(share, STEP, x.astype(np.float64), y.astype(np.float64)) > u[0]
    found["look"] = np.where(is_coarse, Nucleus.TUMOR, Nucleus.EPITHELIAL)
    counts = np.where(is_coarse, book.count(Nucleus.TUMOR), book.count(Nucleus.EPITHELIAL))
    found["sprite"] = (u[1] * counts).astype(np.int64) * TURNS + found["sprite"] % TURNS


def _lattice(
    rng: np.random.Generator,
    plan: SlidePlan,
    book: SpriteBook,
    kind: Nucleus,
    maps: BlockMaps,
    around: NDArray[np.void],
    row: int,
    col: int,
) -> NDArray[np.void]:
    mpp = plan.spec.mpp
    spacing, jitter = _LATTICE[kind]
    per_side = max(1, round(BLOCK * mpp / spacing))
    pitch = BLOCK / per_side
    u = rng.random((6, per_side * per_side))
    k = np.arange(per_side * per_side)
    shift = 0.25 * (k // per_side % 2 * 2 - 1)  # every second row is offset: hexagons pack closer than squares
    x = (k % per_side + 0.5 + shift + jitter * (u[0] - 0.5)) * pitch % BLOCK
    y = (k // per_side + 0.5 + jitter * (u[1] - 0.5)) * pitch
    keep = np.flatnonzero(_chance(kind, maps, x, y) > u[2])
    x, y, u = x[keep], y[keep], u[:, keep]
    l0_x, l0_y = x + col * BLOCK, y + row * BLOCK
    free = np.flatnonzero(~inside_any(around, l0_x, l0_y, 2.5 / mpp))
    x, y, u, l0_x, l0_y = x[free], y[free], u[:, free], l0_x[free], l0_y[free]
    if kind is Nucleus.SPINDLE:
        angle = lookup(maps.direction, STEP, x, y) + 0.9 * (u[3] - 0.5)
        turn = np.rint(angle / np.pi * TURNS).astype(np.int64) % TURNS
    else:
        turn = (u[3] * TURNS).astype(np.int64)
    return _nuclei(kind, l0_x, l0_y, (u[4] * book.count(kind)).astype(np.int64) * TURNS + turn, u[5])


def _chance(kind: Nucleus, maps: BlockMaps, x: F64, y: F64) -> F32:
    def at(values: F32) -> F32:
        return lookup(values, STEP, x, y)

    nest = at(maps.nest)
    bed = at(maps.tumor) - nest
    tissue = at(maps.density) * (at(maps.depth) > 3)
    if kind is Nucleus.LYMPHOCYTE:
        share = (
            0.97 * (at(maps.lymphoid) - 0.8 * at(maps.follicle))
            + 0.28 * at(maps.glandular)
            + 0.05 * at(maps.fibrous)
            + 0.16 * bed
        )
    elif kind is Nucleus.SPINDLE:
        share = 0.75 * at(maps.fibrous) + 0.35 * at(maps.glandular) + 0.85 * bed + 0.12 * at(maps.fatty)
        share = share + 0.06 * at(maps.lymphoid)
    elif kind is Nucleus.BLAST:
        share = 0.9 * at(maps.follicle)
    else:
        share = 1.02 * (nest > 0.55)
    return np.asarray(share * tissue, np.float32)


def _ring(rng: np.random.Generator, plan: SlidePlan, book: SpriteBook, gland: np.void) -> NDArray[np.void]:
    """Nuclei side by side in the wall of a gland, long axis towards its lumen: polarity, which tumour loses."""
    around = np.pi * (gland["a"] + gland["b"]) * plan.spec.mpp
    # from one row of nuclei to several at different heights, as in proliferating crypts
    rows = float(gland["two_at"]) / (2 * np.pi)
    count = max(6, round(around / (_RING_SPACING_UM - 3.0 * rows)))
    u = rng.random((4, count))
    theta = 2 * np.pi * (np.arange(count) + 0.35 * (u[0] - 0.5)) / count
    wave = gland["two"] * np.cos(2 * theta + gland["two_at"]) + gland["three"] * np.cos(3 * theta + gland["three_at"])
    # basal: a nucleus' half length inside the outline
    depth = (1 + wave) * (1 - (4.6 + 3.0 * rows + (2.0 + 6.0 * rows) * (u[1] - 0.5)) / plan.spec.mpp / gland["b"])
    px, py = depth * gland["a"] * np.cos(theta), depth * gland["b"] * np.sin(theta)
    cos, sin = np.cos(gland["turn"]), np.sin(gland["turn"])
    dx, dy = px * cos - py * sin, px * sin + py * cos
    turn = np.rint(np.arctan2(dy, dx) / np.pi * TURNS).astype(np.int64) % TURNS
    variant = (u[2] * book.count(Nucleus.EPITHELIAL)).astype(np.int64)
    return _nuclei(Nucleus.EPITHELIAL, dx + gland["l0_x"], dy + gland["l0_y"], variant * TURNS + turn, u[3])


def _nuclei(kind: Nucleus, l0_x: F64, l0_y: F64, sprite: NDArray[np.int64], dye: F64) -> NDArray[np.void]:
    out = np.zeros(len(l0_x), NUCLEUS)
    out["l0_x"], out["l0_y"] = np.rint(l0_x), np.rint(l0_y)
    out["kind"], out["look"], out["sprite"], out["dye"] = kind, kind, sprite, 0.75 + 0.5 * dye
    return out
