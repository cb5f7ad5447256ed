"""Seconds of each phase of a run, measured many times: the paper's Table 3 and section 4.3.

    python -m bench.paper.phase_times SLIDE [--model DIR] [--repetitions 1000] [--json FILE]

One process, no MPI. *Initialisation* is opening the slide (its quick hash included), its thumbnail, the tissue mask and
the list of roots; *task creation* is finding the children of one tile; *analysis* is reading, classifying and deciding
one batch of as many tiles as the engine computes at once (it pads smaller ones), in seconds a tile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, report
from pyramidai_mpi.analyses.classify import Classify
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.engines.fixed_batch import settle_batch_shape
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.run.networks import open_package
from pyramidai_mpi.run.opening import open_under, rule_of, segment_slide
from pyramidai_mpi.run.stain import estimate_stain, own_stain_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.types import TileArray

    Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """Seconds of each repetition by the clock and of processor time, float64 (R,).

    On a machine that others use, too, the clock counts their turns and the processor time does not.
    """

    wall: Seconds
    cpu: Seconds

    def over(self, n: int) -> Samples:
        """Of one of `n` equal parts."""
        return Samples(self.wall / n, self.cpu / n)


@dataclass(frozen=True)
class PhaseTimes:
    """Seconds of every phase.

    Attributes
    ----------
    initialisation, task_creation
        Of one slide; of the children of one tile.
    analysis
        Of one tile, level 0 first.
    """

    initialisation: Samples
    task_creation: Samples
    analysis: tuple[Samples, ...]

    def save(self, path: Path) -> None:
        """Write them as npz."""
        np.savez(path, allow_pickle=False, **{name: np.stack([s.wall, s.cpu]) for name, s in self.named().items()})

    @classmethod
    def load(cls, path: Path) -> PhaseTimes:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            levels = sorted(name for name in arrays if name.startswith("level"))
            first, second, *analysis = (Samples(*arrays[name]) for name in ("initialisation", "task creation", *levels))
        return cls(first, second, tuple(analysis))

    def named(self) -> dict[str, Samples]:
        """By name of the phase."""
        analysis = {f"level {n}": seconds for n, seconds in enumerate(self.analysis)}
        return {"initialisation": self.initialisation, "task creation": self.task_creation} | analysis

    def costs(self, *, cpu: bool) -> RunSeconds:
        """Mean seconds."""
        means = [float((s.cpu if cpu else s.wall).mean()) for s in self.named().values()]
        return RunSeconds(means[0], means[1], tuple(means[2:]))


@dataclass(frozen=True)
class RunSeconds:
    """What a run's parts cost: of one slide, of the children of one tile, of one tile of each level, level 0 first."""

    initialisation: float
    task_creation: float
    analysis: tuple[float, ...]

    def of(self, tiles: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Seconds of runs that analyse `tiles` (S, levels) tiles, level 0 first, float64 (S,): the paper's section 4.3.

        Every tile above level 0 pays for one creation of tasks, whether it is zoomed into or not.
        """
        creation = tiles[:, 1:].sum(axis=1) * self.task_creation
        return np.asarray(self.initialisation + tiles @ np.array(self.analysis) + creation)


PAPER_SECONDS = RunSeconds(0.02, 28e-6, (0.33, 0.33, 0.31))
"""The paper's Table 3, on its own machine."""


def measure_phases(slide: Path, model: Path, repetitions: int) -> PhaseTimes:
    """Time every phase on one slide."""
    package = open_package(model, check_networks=False)

    def initialise() -> None:
        opened = open_under(SlideInput(slide), package)
        rule_of(opened, segment_slide(opened)).roots()

    opened = open_under(SlideInput(slide), package)
    rule = rule_of(opened, segment_slide(opened))
    engines = []
    for level in package.levels:
        engine = OnnxEngine(level, package)
        engine.use_batch_shape(settle_batch_shape(engine, package.tile_size))
        engines.append(engine)
    classify = Classify(
        engines,
        [level.threshold for level in package.levels],
        len(package.classes),
        package.score_column,
        stain_engine=own_stain_engine(package),
    )
    analysis = classify.on(estimate_stain(opened, rule, package), rule)
    tiles = [rule.roots()]
    while tiles[-1]["level"][0]:
        tiles.append(rule.children(tiles[-1]))
    rng = np.random.default_rng(0)
    parents = np.concatenate(tiles[:-1])
    picks = rng.integers(len(parents), size=repetitions)
    return PhaseTimes(
        _time([initialise] * repetitions),
        _time([_Call(rule.children, parents[k : k + 1]) for k in picks]),
        tuple(
            _time([_Call(analysis.look, batch) for batch in _batches(here, engine.batch_shape, repetitions, rng)]).over(
                engine.batch_shape
            )
            for here, engine in zip(reversed(tiles), engines, strict=True)
        ),
    )


@dataclass(frozen=True)
class _Call:
    function: Callable[[TileArray], object]
    tiles: TileArray

    def __call__(self) -> None:
        self.function(self.tiles)


def _batches(tiles: TileArray, size: int, n: int, rng: np.random.Generator) -> list[TileArray]:
    """`n` batches of neighbours, as a run takes them, in random order."""
    return [tiles[(first + np.arange(size)) % len(tiles)] for first in rng.integers(len(tiles), size=n).tolist()]


def _time(calls: Sequence[Callable[[], None]]) -> Samples:
    calls[0]()  # warm
    wall, cpu = np.empty(len(calls)), np.empty(len(calls))
    for k, call in enumerate(calls):
        start, start_cpu = time.perf_counter(), time.process_time()
        call()
        wall[k], cpu[k] = time.perf_counter() - start, time.process_time() - start_cpu
    return Samples(wall, cpu)


def figures_of(times: PhaseTimes) -> list[Figure]:
    """Mean and deviation of every phase."""
    figures = []
    for name, samples in times.named().items():
        for clock, seconds in (("wall", samples.wall), ("processor", samples.cpu)):
            setting = {"clock": clock, "deviation": round(1e3 * float(seconds.std()), 4), "repetitions": len(seconds)}
            figures.append(Figure(name, 1e3 * float(seconds.mean()), "ms", setting))
    return figures


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--repetitions", type=int, default=1000)
    options = parser.parse_args()
    times = measure_phases(options.slide, options.model or default_model(), options.repetitions)
    report(figures_of(times), options.json)


if __name__ == "__main__":
    main()
