"""Leave one centre out: how well a network does on slides of a centre whose stain it has never seen.

    mpirun -n 2 python -m bench.training.centres --work FOLDER [--slides 4] [--epochs 20] [--tiles 40] [--seeds 1]

Generated slides of five centres. Each centre has its own scanner: what it makes of light, channel by channel, is a
power and a factor, which no augmentation here imitates. For each centre a network is trained on the others, with turned
tiles alone, with light and with strong variation of stain (Tellez et al. 2018), and tested on it: a table of accuracy
at probability 0.5 and of AUC, with mean and standard deviation over centres, and of slides that were not trained on
either, but of centres that were (those that chose the epoch). `train --leave-centre-out` does this with slides.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from bench.command_line import command_line
from bench.figures import print_table
from pyramidai_mpi.models.package import ModelLevel, ModelPackage
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.store.patches.origins import Origins
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.training.fit_settings import FitSettings, parse_augment
from pyramidai_mpi.training.labelled_patches import TilePlan, cases_of
from pyramidai_mpi.training.per_level import TrainingPlan, train_levels
from pyramidai_mpi.training.splits import Split, centres_of
from pyramidai_mpi.training.tile_store import TileStore
from pyramidai_mpi.training.torch_setup import use_one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.command_line import Options
    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.training.tile_store import DrawnTiles, Source

SIDE = 2600
TILE, MPP = 112, 0.5
"""As much tissue as 224 px at 0.25 µm per pixel, for a quarter of the work."""
SCANNERS = {
    "a": ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    "b": ((1.5, 1.1, 0.8), (0.95, 0.9, 1.0)),
    "c": ((0.7, 0.8, 1.2), (1.0, 0.97, 0.88)),
    "d": ((1.1, 1.5, 1.4), (0.9, 0.95, 0.92)),
    "e": ((0.8, 0.65, 0.7), (0.97, 1.0, 0.95)),
}
"""Powers and factors of red, green and blue, by centre."""
WAYS = {"turns": "turns", "light stain": "turns,stain=0.05", "strong stain": "turns,stain=0.2"}


@dataclass(frozen=True)
class Scanned:
    """Tiles as a centre's scanner sees them: see `per_level.Material`."""

    plan: TilePlan

    @property
    def model(self) -> ModelPackage:
        """Tile size and spacing."""
        return self.plan.model

    @property
    def kind(self) -> str:
        """In words."""
        return "slides"

    @property
    def in_words(self) -> str:
        """What is positive."""
        return self.plan.in_words

    def sources(self, slides: Sequence[Path]) -> list[Source]:
        """The slides."""
        return self.plan.sources(slides)

    def draw_one(self, source: Source) -> list[DrawnTiles]:
        """Tiles of a slide, seen through its scanner."""
        scanner = SCANNERS[source.path.name[0]]
        return [replace(tiles, pixels=seen_through(tiles.pixels, *scanner)) for tiles in self.plan.draw_one(source)]


def seen_through(pixels: RgbArray, powers: Sequence[float], factors: Sequence[float]) -> RgbArray:
    """Grey value g of a channel becomes 255 * factor * (g / 255) ** power, uint8 of the same shape."""
    light = np.arange(256) / 255
    tables = [
        np.rint(255 * factor * light**power).astype(np.uint8) for power, factor in zip(powers, factors, strict=True)
    ]
    return np.stack([table[pixels[..., channel]] for channel, table in enumerate(tables)], axis=-1)


def generated(folder: Path, per_centre: int) -> list[Path]:
    """Slides of each centre, one of them without tumour; what is missing is made, by whichever rank comes by."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{centre}{number}.tif" for centre in SCANNERS for number in range(per_centre)]
    for seed, path in enumerate(paths):
        if seed % MPI.COMM_WORLD.size == MPI.COMM_WORLD.rank and not path.exists():
            share = 0.0 if path.stem[1:] == "0" else 0.3
            write_slide(SynthSpec(SIDE, SIDE, seed=seed + 500, tumor_share=share), path)
    MPI.COMM_WORLD.Barrier()
    return paths


def main() -> None:
    """Train, and print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of slides, tiles and states")
    parser.add_argument("--slides", type=int, default=4, help="of each centre, one of them without tumour")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--tiles", type=int, default=40, help="most of each class and slide")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    use_one_thread()
    found = measured(options)
    if MPI.COMM_WORLD.rank:
        return
    heads = ["tested on", *(f"{way}: accuracy, AUC" for way in WAYS)]
    rows = [
        [centre, *(in_words([of_way[centre]]) for of_way in found.values())] for centre in next(iter(found.values()))
    ]
    rows.append(["mean of the centres", *(in_words(list(of_way.values())) for of_way in found.values())])
    spreads = [
        tuple(statistics.stdev(column) for column in zip(*of_way.values(), strict=True)) for of_way in found.values()
    ]
    rows.append(["standard deviation", *(f"{accuracy:.3f}, {area:.3f}" for _, _, accuracy, area in spreads)])
    known = [tuple(map(statistics.fmean, zip(*of_way.values(), strict=True))) for of_way in found.values()]
    rows.append(["known centres, mean", *(f"{accuracy:.3f}, {area:.3f}" for accuracy, area, _, _ in known)])
    print_table(heads, rows)


def in_words(values: list[tuple[float, float, float, float]]) -> str:
    """Mean accuracy and AUC on test tiles."""
    return ", ".join(f"{statistics.fmean(column):.3f}" for column in list(zip(*values, strict=True))[2:])


def measured(options: Options) -> dict[str, dict[str, tuple[float, float, float, float]]]:
    """Accuracy and AUC on validation and test tiles, means over seeds, by way and centre. Collective."""
    pool = UnitPool(MPI.COMM_WORLD)
    slides = generated(options.work / "slides", options.slides)
    model = ModelPackage(
        options.work, "centres", ("normal", "tumor"), 1, TILE, 2, MPP, "none", (ModelLevel(0, Path(), 0.5, ""),), ""
    )
    plan = TilePlan(model, options.work / "slides", 0.5, options.tiles, seed=0)
    origins = Origins({slide.stem: {"patient": slide.stem, "centre": slide.stem[0]} for slide in slides})
    store = TileStore(options.work / "tiles", 1)
    material = Scanned(plan)
    store.draw(pool, material, slides)
    splits = centres_of(cases_of(pool, slides, plan, origins), seed=0)
    found: dict[str, dict[str, tuple[float, float, float, float]]] = {}
    for way, words in WAYS.items():
        found[way] = {}
        for centre, split in splits.items():
            of_seeds = []
            for seed in range(options.seeds):
                work = options.work / f"{way}-{centre}-{seed}".replace(" ", "-")
                work.mkdir(exist_ok=True)
                settings = FitSettings(options.epochs, learning_rate=2e-3, seed=seed, augment=parse_augment(words))
                training = TrainingPlan(material, "small", None, from_finer=False, work=work)
                (result,) = train_levels(pool, training, settings, split, store)
                of_kinds = [(result.accuracies[kind], result.areas[kind]) for kind in (Split.VALIDATION, Split.TEST)]
                of_seeds.append((*of_kinds[0], *of_kinds[1]))
            first, second, third, fourth = (statistics.fmean(column) for column in zip(*of_seeds, strict=True))
            found[way][centre.removeprefix("centre-")] = first, second, third, fourth
    return found


if __name__ == "__main__":
    main()
