"""What `bench.scale.scaling` prints: Markdown tables, and the plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from bench.figures import save_plot, table_lines
from bench.scale.scaled_cohort import SLIDE_GIGAPIXELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.scale.camelyon_cohort import SimulatedCohort
    from bench.scale.scaled_cohort import Scaled
    from bench.scale.tile_costs import MeasuredCosts

MARK = "<!-- scaling -->"
FILE_SYSTEMS = (1e9, 1e10)
"""Bytes a second."""
INCEPTION_V3 = 2.84e9
"""Multiply-adds of one 224 px tile: what the engines measured are taken to be."""
TILE_MEGAPIXELS = 224 * 224 / 1e6
PAPER_TILE_S = 0.33
"""The paper's seconds a tile, on a six-core desktop."""


@dataclass(frozen=True)
class Published:
    """What the FDA's group published.

    Li, Mikailov, Chen: Scaling the Inference of Digital Pathology Deep Learning Models Using CPU-Based High-Performance
    Computing, IEEE Trans. Artif. Intell. 4 (6), 2023, doi:10.1109/TAI.2023.3246032. Hours and cores are the abstract's;
    network, tile and stride those of their code (github.com/DIDSR/dldp); 1.5e9 multiply-adds are what GoogLeNet's
    authors give.
    """

    core_s: float = 18 * 365.25 * 86400
    gpu_s: float = 30 * 86400
    cores: int = 4000
    hours: float = 45
    predictions: int = (224 // 16) ** 2
    multiply_adds: float = 1.5e9


FDA = Published()


def cost_lines(costs: MeasuredCosts) -> Iterator[str]:
    """What one core was seen to pay."""
    slide = costs.slide
    heads = ["milliseconds a tile", *(f"level {n}" for n in range(len(slide.read_s)))]
    rows = {"read": slide.read_s, "stain (Macenko)": (slide.stain_s,) * len(slide.read_s)}
    rows |= {f"infer, {engine.name}": engine.infer_s for engine in costs.engines}
    cells = [[name, *(f"{1e3 * s:.2f}" for s in seconds)] for name, seconds in rows.items()]
    yield from table_lines(heads, [*cells, ["kB read from the file", *(f"{n / 1e3:.0f}" for n in slide.read_bytes)]])
    yield ""
    yield f"{slide.machine}; {slide.slide}. Seconds of one core:"
    tissue_s = SLIDE_GIGAPIXELS * slide.tissue_s_per_gigapixel
    yield f"opening a slide {slide.opening_s:.2f}, its tissue {tissue_s:.1f} for {SLIDE_GIGAPIXELS:.1f} gigapixels,"
    yield f"opening it again {slide.reopening_s:.3f}; writing {1e6 * slide.writing_s:.2f} millionths a tile; loading"
    yield ", ".join(f"{e.loading_s:.1f} ({e.name}, {e.model_bytes / 1e6:.0f} MB)" for e in costs.engines) + "."


def cohort_lines(cohort: SimulatedCohort) -> Iterator[str]:
    """What there is to do."""
    n_slides, n_tiles = len(cohort.slides), sum(cohort.analysed)
    levels = ", ".join(map(str, cohort.analysed))
    yield f"{n_slides} slides, {cohort.tumor_slides} with tumour. Reference run: {cohort.n_reference} tiles,"
    yield f"{cohort.n_reference / n_slides:.0f} a slide. Pyramid: {n_tiles} tiles, {levels} of levels 0, 1, 2,"
    yield f"{cohort.n_reference / n_tiles:.2f} times fewer. It keeps {100 * cohort.retention:.1f} % of the true"
    yield "positives of the test set (mean over slides)."


def scaled_lines(found: Sequence[Scaled]) -> Iterator[str]:
    """What the cluster does."""
    heads = ["engine", "run", "cores", "hours", "core-hours", "efficiency", "scheduling alone", "speedup", "rank 0"]
    rows = [
        [
            one.engine,
            one.run,
            one.cores,
            f"{one.hours:.3g}",
            f"{one.core_hours:.4g}",
            f"{one.efficiency:.3f}",
            f"{one.scheduled:.3f}",
            f"{one.speedup:.4g}",
            f"{100 * one.rank0_s / one.makespan_s:.2g} %",
            f"{one.bytes_per_s / 1e9:.3g} GB/s",
        ]
        for one in found
    ]
    yield from table_lines([*heads, "read"], rows)


def loss_lines(found: Sequence[Scaled]) -> Iterator[str]:
    """Where the time of the most cores goes, in seconds of each, means."""
    most = max(one.cores for one in found)
    heads = ["seconds of a core, of so many", "makespan", "networks loaded", "until its first task", "tasks"]
    heads += ["between tasks", "after its last task", "opened again, written"]
    rows = []
    for one in found:
        if one.cores == most:
            lost = (one.loading_s, one.began_s, one.between_s, one.ended_s, one.beside_s)
            tasks_s = one.makespan_s - sum(lost)
            cells = (one.makespan_s, *lost[:2], tasks_s, *lost[2:])
            rows.append([f"{one.engine}, {one.run}, {most} cores", *(f"{seconds:.2f}" for seconds in cells)])
    yield from table_lines(heads, rows)


def file_system_lines(found: Sequence[Scaled]) -> Iterator[str]:
    """From how many cores on a file system is the limit."""
    fewest = min(one.cores for one in found)
    rows = []
    for one in found:
        if one.cores == fewest:
            limits = [f"{one.cores_at(limit):.0f} cores" for limit in FILE_SYSTEMS]
            rows.append([one.engine, one.run, f"{one.bytes_per_s / one.cores / 1e6:.2f}", *limits])
    heads = [f"{limit / 1e9:g} GB/s last for" for limit in FILE_SYSTEMS]
    yield from table_lines(["engine", "run", "MB/s a core", *heads], rows)


def comparison_lines(found: Sequence[Scaled], cohort: SimulatedCohort, costs: MeasuredCosts) -> Iterator[str]:
    """Beside Li et al. 2023, per tile of tissue, per prediction and per multiply-add, and beside the paper."""
    most = max(one.cores for one in found)
    reference = cohort.n_reference
    heads = ["", "core-hours", "core-seconds a tile of tissue", "... a megapixel", "predictions a tile"]
    heads += ["core-seconds a prediction", "... 1e12 multiply-adds (ours: InceptionV3)"]
    rows = [_compared("Li et al. 2023, GoogLeNet", FDA.core_s, reference, FDA.predictions, FDA.multiply_adds)]
    for one in found:
        if one.cores == most:
            name = f"{one.engine}, {one.run}, {most} cores"
            rows.append(_compared(name, one.cores * one.makespan_s, reference, one.tiles / reference, INCEPTION_V3))
    yield from table_lines(heads, rows)
    yield ""
    gpu_s = FDA.gpu_s / (reference * FDA.predictions)
    yield f"Their 30 GPU-days are {1e3 * gpu_s:.2f} ms a prediction, their cluster's 45 h at most"
    yield f"{FDA.cores * FDA.hours:.0f} core-hours. With {FDA.predictions} predictions a tile, each as dear as ours:"
    dense = [(engine, reference * FDA.predictions * engine.infer_s[0] / 3600) for engine in costs.engines]
    yield ", ".join(f"{hours:.0f} core-hours ({engine.name})" for engine, hours in dense) + "."
    whole, pyramid = (n * PAPER_TILE_S / 3600 for n in (reference, sum(cohort.analysed)))
    yield f"The paper's {PAPER_TILE_S} s a tile on a six-core desktop make {whole:.0f} hours for the reference run and"
    yield f"{pyramid:.0f} for the pyramid."


def _compared(name: str, core_s: float, tissue_tiles: int, predictions: float, multiply_adds: float) -> list[str]:
    a_tile = core_s / tissue_tiles
    a_prediction = a_tile / predictions
    numbers = (a_tile, a_tile / TILE_MEGAPIXELS, predictions, a_prediction, a_prediction / multiply_adds * 1e12)
    return [name, f"{core_s / 3600:.4g}", *(f"{number:.3g}" for number in numbers)]


def all_tables(found: Sequence[Scaled], cohort: SimulatedCohort, costs: MeasuredCosts) -> str:
    """Everything, as Markdown."""
    parts = (
        cost_lines(costs),
        cohort_lines(cohort),
        scaled_lines(found),
        loss_lines(found),
        file_system_lines(found),
        comparison_lines(found, cohort, costs),
    )
    return "\n\n".join("\n".join(lines).strip() for lines in parts) + "\n"


def put_into(page: Path, tables: str) -> None:
    """Replace what lies between the two marks of a page.

    Raises
    ------
    SystemExit
        The page has not two.
    """
    parts = page.read_text().split(MARK)
    if len(parts) != 3:
        raise SystemExit(f"{page} holds {MARK} {len(parts) - 1} times; expected twice, round the tables to be replaced")
    page.write_text(f"{parts[0]}{MARK}\n\n{tables}\n{MARK}{parts[2]}")


def draw_plot(found: Sequence[Scaled], n_slides: int, prefix: Path) -> None:
    """Hours over cores, as SVG and PNG."""
    plot = Figure(figsize=(7, 4.5), layout="constrained")
    axes = plot.subplots()
    engines = list(dict.fromkeys(one.engine for one in found))
    for engine, run in dict.fromkeys((one.engine, one.run) for one in found):
        rows = sorted((one.cores, one.hours) for one in found if (one.engine, one.run) == (engine, run))
        style = "-" if run == "pyramid" else "--"
        color = f"C{engines.index(engine)}"
        axes.plot(*zip(*rows, strict=True), style, marker="o", color=color, label=f"{engine}, {run}")
    axes.plot(FDA.cores, FDA.hours, "kX", label=f"Li et al. 2023: {FDA.predictions} predictions a tile")
    axes.set(xscale="log", yscale="log", xlabel="cores", ylabel=f"hours for {n_slides} slides")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save_plot(plot, prefix, dpi=100)
