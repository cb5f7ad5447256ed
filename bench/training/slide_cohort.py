"""Generated slides whose label few of their tiles show, and whose stain is not that of the encoder's own slides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.package import ModelLevel, ModelPackage
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.run.opening import open_under, rule_of, segment_slide
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.training.augment import Changes, changed
from pyramidai_mpi.training.slides.tissue_tiles import TissueTiles, find_tissue
from pyramidai_mpi.truth.labels import label_levels
from pyramidai_mpi.truth.truth import read_truth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

SIDE_PX, TILE_PX, MPP = 1536, 96, 0.5
"""Side of a slide at 0.25 µm/px; of a tile, and its µm/px."""
_FIRST_SEED = 20_000


@dataclass(frozen=True)
class Cohort:
    """Slides, by their tiles.

    Attributes
    ----------
    tiles
        uint8 (n, T, T, 3) of each slide, mapped from disk.
    tumor
        bool (n,) of each slide: which tiles are tumour, half of their tissue at least.
    positive
        bool (N,), which slides hold tumour.
    """

    tiles: tuple[RgbArray, ...]
    tumor: tuple[npt.NDArray[np.bool_], ...]
    positive: npt.NDArray[np.bool_]

    def __call__(self, slide: int, tiles: npt.NDArray[np.int64]) -> tuple[RgbArray, npt.NDArray[np.bool_]]:
        """See `TilePixels`."""
        return np.asarray(self.tiles[slide][tiles]), np.ones(len(tiles), bool)


def model_of(folder: Path) -> ModelPackage:
    """Size and spacing of tiles."""
    return ModelPackage(
        folder=folder,
        name="cohort",
        classes=("normal", "tumor"),
        positive_class=1,
        tile_size=TILE_PX,
        scale_factor=2,
        base_mpp=MPP,
        stain="none",
        levels=(ModelLevel(0, folder / "none.onnx", 0.5, ""),),
        yaml_text="",
    )


def cohort_of(folder: Path, n_slides: int, shares: tuple[float, float], strength: float) -> Cohort:
    """Slides, every second with tumour; generated and read once, then kept in `folder`.

    Parameters
    ----------
    folder
        Keeps slides and tiles.
    n_slides
        How many.
    shares
        Least and greatest share of the tissue that is tumour, of slides that have any.
    strength
        How far each slide's stain is from what it was generated with: both strengths are multiplied by 1 - this to
        1 + this, and moved by up to half of it in optical density. 0 leaves it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [_FIRST_SEED + number for number in range(n_slides)]
    model = model_of(folder)
    for seed in seeds:
        kept = folder / f"{seed}-{strength:g}-{shares[1]:g}.npz"
        if kept.exists():
            continue
        slide = folder / f"{seed}-{shares[1]:g}.tif"
        rng = np.random.default_rng(seed)
        share = float(rng.uniform(*shares)) if seed % 2 else 0.0
        if not slide.exists():
            write_slide(SynthSpec(SIDE_PX, SIDE_PX, seed=seed, tumor_share=share), slide, threads=1)
        tiles, tumor = _read(slide, model)
        np.savez(folder / f"partial-{kept.name}", tumor=tumor)
        np.save(kept.with_suffix(".npy"), _restained(tiles, rng, strength))
        (folder / f"partial-{kept.name}").rename(kept)
    found = [folder / f"{seed}-{strength:g}-{shares[1]:g}" for seed in seeds]
    tiles_of = tuple(np.load(f"{path}.npy", mmap_mode="r") for path in found)
    tumor_of = tuple(np.load(f"{path}.npz")["tumor"] for path in found)
    return Cohort(tiles_of, tumor_of, np.array([bool(seed % 2) for seed in seeds]))


def _read(slide: Path, model: ModelPackage) -> tuple[RgbArray, npt.NDArray[np.bool_]]:
    source = [SlideInput(slide)]
    ((index,), _) = find_tissue(UnitPool(), source, model)
    reader = TissueTiles(source, model, [index])
    pixels, _ = reader(0, np.arange(len(index)))
    reader.close()
    opened = open_under(source[0], model)
    tissue = rule_of(opened, segment_slide(opened)).tissue
    truth = read_truth(slide.with_suffix(".geojson"), slide.name, opened.pyramid.reader.info.l0_size)
    step = tissue.grid.l0_side(0) / tissue.pixels_per_tile
    covered = truth.coverage((tissue.mask.shape[0], tissue.mask.shape[1]), step)
    opened.pyramid.reader.close()
    return pixels, label_levels(tissue, covered, [index], 0.5)[0]


def _restained(tiles: RgbArray, rng: np.random.Generator, strength: float) -> RgbArray:
    factors = np.array([*(1 + strength * rng.uniform(-1, 1, 2)), 1.0])
    offsets = np.array([*(strength / 2 * rng.uniform(-1, 1, 2)), 0.0])
    n = len(tiles)
    same = Changes(
        np.zeros(n, np.int64),
        np.zeros((n, 2)),
        np.ones(n),
        np.repeat(factors[None], n, 0),
        np.repeat(offsets[None], n, 0),
        np.ones(n),
    )
    return changed(tiles, same)


def in_numbers(cohort: Cohort) -> str:
    """What it is like."""
    positive = [int(tumor.sum()) for tumor, is_one in zip(cohort.tumor, cohort.positive, strict=True) if is_one]
    counts: Sequence[int] = [len(one) for one in cohort.tiles]
    return (
        f"{len(counts)} slides of {min(counts)} to {max(counts)} tiles; of {len(positive)} with tumour a median of "
        f"{np.median(positive):g} tiles show it ({min(positive)} to {max(positive)})"
    )
