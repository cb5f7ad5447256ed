"""What 12, 128 and 1024 cores would do on the 399 slides of CAMELYON16: measured costs, simulated cluster.

    python -m bench.scale.scaling --measure SLIDE --mpp 0.25 --engine onnxruntime:MODEL [--into PAGE] [--plot PREFIX]
    python -m bench.scale.scaling [--costs FILE] [--cores 12,128,1024] [--json FILE] [--into PAGE] [--plot PREFIX]
    python -m bench.scale.scaling --stride 16 [--costs FILE] [--cores 4000] [--mean-tiles N] [--json FILE]

The first measures one core's costs (`bench.scale.tile_costs`), keeps them in ``--costs`` and goes on as the second: all
slides (`bench.scale.camelyon_cohort`) as one pool, one rank a core, the real scheduler under a virtual clock
(`bench.scale.scaled_cohort`), for the pyramidal and for the reference run. Seven minutes and 4 GB for three engines.
The third has windows at a stride in the tiles of the reference run, each by itself, and no pyramid; other ways to
compute them are in `bench.scale.strides_on_paper`.

Left out: the file system's limit (the bytes that it would be asked for are printed), memory bandwidth and clock of a
processor whose cores all work, MPI's start, predictions on their way to the slides' owners.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.command_line import Options, command_line
from bench.figures import Figure, report
from bench.paper.lesions import load_outlines
from bench.paper.slide_geometry import TILE_PX
from bench.scale.camelyon_cohort import LABELS, MEAN_TILES, build_cohort
from bench.scale.scaled_cohort import at_stride, scale
from bench.scale.scaling_tables import MARK, all_tables, draw_plot, put_into, scaled_lines
from bench.scale.tile_costs import MeasuredCosts, measure_costs
from pyramidai_mpi.models.package import BATCH_SHAPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.scale.camelyon_cohort import SimulatedCohort
    from bench.scale.scaled_cohort import Scaled

COSTS = Path(__file__).with_name("scaling_costs.json")
CORES = "12,128,1024"


def scale_all(
    cohort: SimulatedCohort,
    costs: MeasuredCosts,
    cores: Sequence[int],
    runs: Sequence[str] = ("pyramid", "reference"),
    grain: int = BATCH_SHAPE,
) -> list[Scaled]:
    """Every engine on every number of cores, by run."""
    found = []
    for run in runs:
        tiles = cohort.analysed if run == "pyramid" else (cohort.n_reference,)
        forest = cohort.pyramid() if run == "pyramid" else cohort.reference()
        for engine in costs.engines:
            for n in cores:
                found.append(scale(forest, run, tiles, costs, engine, n, grain))
                print(f"{run}, {engine.name}, {n} cores: {found[-1].hours:.3f} h", flush=True)
        del forest  # before the next one, which takes gigabytes, too
    return found


def figures_of(found: Sequence[Scaled]) -> list[Figure]:
    """One a row, with everything else as its setting."""
    return [Figure("makespan", one.hours, "h", asdict(one)) for one in found]


def parse_arguments() -> Options:
    """The command line."""
    parser = command_line(__doc__, "outlines", "json", "plot")
    parser.add_argument("--measure", type=Path, metavar="SLIDE", help="measure the costs first, on this slide")
    parser.add_argument("--engine", action="append", metavar="LIBRARY:MODEL", help="to measure; several times")
    parser.add_argument("--mpp", type=float, default=None, help="of the slide, if it does not say")
    parser.add_argument("--roots", type=int, default=32, help="roots whose tiles are measured")
    parser.add_argument("--costs", type=Path, default=COSTS, help="JSON of costs, written or read")
    parser.add_argument("--stride", type=int, help="pixels between windows, up to 224; the reference run alone")
    parser.add_argument("--cores", default=CORES)
    parser.add_argument("--labels", type=Path, default=LABELS, help="CSV of the slides")
    parser.add_argument("--mean-tiles", type=float, default=MEAN_TILES, help="mean tissue of a slide, level-0 tiles")
    parser.add_argument("--into", type=Path, default=None, help=f"Markdown page; the tables go between its two {MARK}")
    options = parser.parse_args()
    if options.measure is not None and not options.engine:
        parser.error("--measure needs at least one --engine LIBRARY:MODEL")
    if options.stride is not None and not 1 <= options.stride <= TILE_PX:
        parser.error(f"--stride: expected 1 to {TILE_PX}")
    return options


def main() -> None:
    """Measure if asked to, simulate, print, plot."""
    options = parse_arguments()
    if options.measure is not None:
        engines = [(library, Path(model)) for library, model in (engine.split(":", 1) for engine in options.engine)]
        measure_costs(options.measure, engines, options.mpp, options.roots).save(options.costs)
    costs = MeasuredCosts.load(options.costs)
    cohort = build_cohort(load_outlines(options.outlines), options.labels, mean_tiles=options.mean_tiles)
    cores = [int(n) for n in options.cores.split(",")]
    if options.stride is not None:
        found = scale_all(cohort, at_stride(costs, options.stride), cores, ["reference"], grain=1)
        report(figures_of(found), options.json)
        print("\n" + "\n".join(scaled_lines(found)))
        return
    found = scale_all(cohort, costs, cores)
    report(figures_of(found), options.json)
    tables = all_tables(found, cohort, costs)
    print(f"\n{tables}")
    if options.into is not None:
        put_into(options.into, tables)
    if options.plot is not None:
        draw_plot(found, len(cohort.slides), options.plot)


if __name__ == "__main__":
    main()
