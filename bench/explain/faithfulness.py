"""What attributions of a package's network lie on, and whether the network agrees: on slides whose nuclei are known.

    python -m bench.explain.faithfulness [--model DIR] [--slides N] [--tiles N] [--size S] [--seed S]
        [--quick | --all] [--curves blur|mean|glass] [--json FILE]

Generated slides that no network was trained on; of each, tiles of level 0 that the network calls positive and of which
tumour nuclei take between a twentieth and three fifths. For each method the share of its (positive) attribution on
tumour nuclei over their share of area: 1 is what a map that knows nothing has. And areas under deletion and insertion
curves (`pyramidai_mpi.explain.faithfulness`), beside those of a random map of the same size. The second table has the
differences from Grad-CAM, tile by tile. Means over tiles; intervals by drawing slides with replacement. `--quick`
leaves out the methods that draw masks, `--all` takes what else may stand where pixels are taken away, and RISE's sum to
the letter.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from bench.command_line import command_line
from bench.figures import Figure, print_table, report
from pyramidai_mpi.evaluation.bootstrap import Estimate, draw_slides, estimate
from pyramidai_mpi.explain.cam import gradcam, gradcam_plus_plus
from pyramidai_mpi.explain.cells import resampled
from pyramidai_mpi.explain.choice import make_perturbation
from pyramidai_mpi.explain.faithfulness import area, curves, random_map
from pyramidai_mpi.explain.integrated import integrated_gradients
from pyramidai_mpi.explain.methods import METHODS, Fill, MethodName
from pyramidai_mpi.explain.perturbation import blocks
from pyramidai_mpi.explain.replacement import replacement
from pyramidai_mpi.models.backward.engine import GradientEngine
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import ModelPackage, load_package
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.truth.nuclei import read_outlined_nuclei

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import numpy.typing as npt

    from pyramidai_mpi.explain.chance import Key
    from pyramidai_mpi.explain.perturbation import Perturbation

    Map = npt.NDArray[np.float32]

UNTIL = 0.95
"""Repeatability at which masks end."""
SHARES = (0.05, 0.6)
"""Of a tile's area under tumour nuclei."""
RESAMPLES = 2000
TUMOR = "tumor nucleus"
_COMPARED = ("on_nuclei", "deletion", "insertion")


@dataclass(frozen=True)
class Tile:
    """A tile: which slide it is of, its pixels uint8 (S, S, 3), where tumour nuclei are, bool (S, S), and its key."""

    slide: int
    pixels: npt.NDArray[np.uint8]
    nuclei: npt.NDArray[np.bool_]
    key: Key


@dataclass(frozen=True)
class Seen:
    """What was measured of one map.

    Attributes
    ----------
    on_nuclei
        Share of attribution on tumour nuclei over their share of area.
    deletion, insertion
        Areas under the map's curves.
    deleted_sooner, inserted_sooner
        Area under the random map's deletion curve less this one's, and under this one's insertion curve less the random
        map's.
    repeatability, masks
        Of methods that draw, NaN and 0 else.
    seconds
        For the map alone.
    """

    on_nuclei: float
    deletion: float
    insertion: float
    deleted_sooner: float
    inserted_sooner: float
    repeatability: float
    masks: int
    seconds: float


class Network:
    """The network of a level: scores of the positive class, and gradients."""

    def __init__(self, package: ModelPackage, level: int) -> None:
        package = package.with_positive_class(None)
        self.column, self.side = package.score_column, package.tile_size
        self._engine = OnnxEngine(package.levels[level], package)
        self.gradients = GradientEngine(package.levels[level], package)

    def score_of(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probability of the positive class, float32 (n,)."""
        return self._engine.predict(pictures)[0][:, self.column]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--tiles", type=int, default=4, help="tiles of each slide")
    parser.add_argument("--size", type=int, default=4096, help="side of a slide in pixels")
    parser.add_argument("--seed", type=int, default=710_000, help="of the first slide; training used 1000 and up")
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument("--quick", action="store_true", help="without rise and lime")
    how_much.add_argument("--all", action="store_true", help="with every fill, and rise by the paper's sum")
    parser.add_argument("--curves", type=Fill, choices=list(Fill), default=Fill.BLUR, help="fill of the curves")
    return parser.parse_args()


def tiles_of(folder: Path, number: int, options: argparse.Namespace, network: Network) -> list[Tile]:
    """Tiles of a slide that is made here."""
    spec = SynthSpec(options.size, options.size, seed=options.seed + number, tumor_share=0.25)
    written = write_slide(spec, folder / f"{number}.tif", nuclei=True)
    assert written.nuclei_path is not None
    nuclei, image = read_outlined_nuclei(written.nuclei_path), tifffile.imread(written.path, level=0)
    is_tumor = np.array([False, *(kind == TUMOR for kind in nuclei.kinds)])
    side, found = network.side, []
    places = [(row, col) for row in range(options.size // side) for col in range(options.size // side)]
    for place in np.random.default_rng(spec.seed).permutation(len(places)):
        row, col = places[place]
        pixels = image[row * side : (row + 1) * side, col * side : (col + 1) * side]
        if network.score_of(pixels[None])[0] < 0.5:
            continue
        marked = is_tumor[nuclei.window((col * side, row * side), 1.0, side)]
        if SHARES[0] <= marked.mean() <= SHARES[1]:
            found.append(Tile(number, np.ascontiguousarray(pixels), marked, (spec.seed, 0, 0, col, row)))
        if len(found) == options.tiles:
            break
    return found


def maps_of(tile: Tile, network: Network, options: argparse.Namespace) -> Iterator[tuple[str, Map, float, int]]:
    """Each method's map with its name, repeatability and masks."""
    everything: bool = options.all
    engine, nan = network.gradients, float("nan")
    for name, method in (("gradcam", gradcam), ("gradcam++", gradcam_plus_plus)):
        looked = engine.look(tile.pixels[None], network.column)
        layer = engine.layers[0].name
        yield name, method(looked.activations[layer][0], looked.gradients[layer][0]), nan, 0
    fills = tuple(Fill) if everything else (Fill.BLUR,)
    steps = int(METHODS[MethodName.INTEGRATED_GRADIENTS].settings({})["steps"])
    for fill in (Fill.BLUR, Fill.GLASS) if not everything else Fill:
        baseline = replacement(tile.pixels, fill)
        name = f"integrated-gradients, from {fill}"
        gradients = lambda at: engine.input_gradients(at, network.column)  # noqa: E731
        yield name, integrated_gradients(tile.pixels, gradients, steps, baseline), nan, 0
    for method in (method for method in METHODS.values() if method.perturbs and not (options.quick and method.draws)):
        for fill in fills:
            perturbation = make_perturbation(method, network.side, {}, fill)
            yield f"{method.name}, {fill}", *perturbed(perturbation, tile, network)
    if everything:
        perturbation = make_perturbation(METHODS[MethodName.RISE], network.side, {"centred": 0})
        yield "rise, the paper's sum", *perturbed(perturbation, tile, network)


def perturbed(perturbation: Perturbation, tile: Tile, network: Network) -> tuple[Map, float, int]:
    """A map, its repeatability, and of how many masks it is, which end when it is repeatable."""
    scores, repeatability = np.zeros(0, np.float32), float("nan")
    for numbers in blocks(perturbation.n_masks):
        pictures = perturbation.perturbed(tile.pixels, numbers, tile.key)
        scores = np.concatenate([scores, network.score_of(pictures)])
        repeatability = perturbation.repeatability(tile.pixels, scores, tile.key)
        if repeatability >= UNTIL:
            break
    return perturbation.map_of(tile.pixels, scores, tile.key), repeatability, len(scores)


def on_nuclei(map_: npt.NDArray[np.floating], nuclei: npt.NDArray[np.bool_]) -> float:
    """Share of what speaks for the class on nuclei, over their share of area; NaN where nothing does."""
    speaks = np.maximum(resampled(map_, nuclei.shape), 0)
    return float(speaks[nuclei].sum() / speaks.sum() / nuclei.mean()) if speaks.any() else float("nan")


def measure(tile: Tile, network: Network, options: argparse.Namespace) -> dict[str, Seen]:
    """Every method on one tile."""
    found: dict[str, Seen] = {}
    control: dict[tuple[int, int], tuple[float, float]] = {}

    def areas(map_: npt.NDArray[np.floating]) -> tuple[float, float]:
        run = curves(tile.pixels, map_, network.score_of, fill=options.curves)
        return area(run.deletion), area(run.insertion)

    started = time.perf_counter()
    for name, map_, repeatability, masks in maps_of(tile, network, options):
        seconds = time.perf_counter() - started
        shape = (map_.shape[0], map_.shape[1])
        if shape not in control:
            control[shape] = areas(random_map(shape, tile.key))
        (deletion, insertion), (random_deletion, random_insertion) = areas(map_), control[shape]
        sooner = random_deletion - deletion, insertion - random_insertion
        found[name] = Seen(on_nuclei(map_, tile.nuclei), deletion, insertion, *sooner, repeatability, masks, seconds)
        started = time.perf_counter()
    for shape, (deletion, insertion) in control.items():
        map_ = random_map(shape, tile.key)
        name = f"random, {shape[0]} x {shape[1]}"
        found[name] = Seen(on_nuclei(map_, tile.nuclei), deletion, insertion, 0.0, 0.0, float("nan"), 0, 0.0)
    return found


def over_slides(values: list[float], slides: list[int]) -> Estimate:
    """Mean over tiles with the interval over slides; tiles without a value do not count."""
    known = np.array([not np.isnan(value) for value in values])
    of, numbers = np.array(values)[known], np.array(slides)[known]
    if not len(of):
        return estimate(float("nan"), np.zeros(0), 0)
    _, places = np.unique(numbers, return_inverse=True)
    n = int(places.max()) + 1
    sums, counts = np.bincount(places, of, n), np.bincount(places, minlength=n)
    drawn = draw_slides(n, RESAMPLES, 0)
    return estimate(float(of.mean()), (drawn @ sums) / (drawn @ counts), n)


def main(options: argparse.Namespace) -> list[Figure]:
    """Measure, print the table, and give its figures."""
    network = Network(load_package(options.model), 0)
    tiles: list[Tile] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.slides):
            tiles += tiles_of(Path(folder), number, options, network)
    seen = [measure(tile, network, options) for tile in tiles]
    slides = [tile.slide for tile in tiles]
    print(f"{len(tiles)} tiles of {len(set(slides))} slides")
    common = {"tiles": len(tiles), "slides": len(set(slides)), "size": options.size, "first_seed": options.seed}
    rows, figures = [], []
    for name in seen[0]:
        cells = [name]
        for field in ("on_nuclei", "deletion", "deleted_sooner", "insertion", "inserted_sooner"):
            found = over_slides([getattr(one[name], field) for one in seen], slides)
            is_area = field in ("deletion", "insertion")
            cells.append(f"{found.value:.3f}" if is_area else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]")
            ends = {"low": round(found.low, 4), "high": round(found.high, 4)}
            figures.append(Figure(field, found.value, "share", {"map": name, **ends, **common}))
        for field, unit in (("repeatability", "share"), ("masks", "masks"), ("seconds", "s")):
            value = float(np.mean([getattr(one[name], field) for one in seen]))
            cells.append("" if np.isnan(value) else f"{value:.3g}")
            figures.append(Figure(field, value, unit, {"map": name, **common}))
        rows.append(cells)
    heads = ("map", "on tumour nuclei / area", "deletion", "less than random", "insertion", "more than random")
    print_table((*heads, "repeatability", "masks", "s a tile"), rows)
    print("\nless Grad-CAM's, tile by tile")
    print_table(("map", *_COMPARED), differences(seen, slides))
    return figures


def differences(seen: list[dict[str, Seen]], slides: list[int]) -> Iterator[list[str]]:
    """Rows of the second table: each map's figures less those of Grad-CAM's."""
    for name in seen[0]:
        if name == MethodName.GRADCAM or name.startswith("random"):
            continue
        pairs = [(one[name], one[MethodName.GRADCAM]) for one in seen]
        found = (
            over_slides([getattr(this, field) - getattr(other, field) for this, other in pairs], slides)
            for field in _COMPARED
        )
        yield [name, *(f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]" for one in found)]


if __name__ == "__main__":
    options = parse_arguments()
    report(main(options), options.json)
