"""How right the bar is: what it says at a quarter of the time, against what came.

    python -m bench.speed.progress_estimate SLIDE... [--mpp X] [--ranks N]... [--mode MODE] [--repeats N] [--json FILE]

Each slide is run on each number of ranks. The time is that of the tiles, from the first batch to the last: *time* is
what the bar predicts for all of it over what it was, *tiles* the number of tiles that it predicts over that of the
result. A quarter in, the bar is within 30 % where both are between 0.70 and 1.30. Without slides, five are generated,
with tumour shares from none to 0.4.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.command_line import Options, command_line
from bench.on_ranks import output_of
from pyramidai_mpi.base.settings import ModelChoice, Output, RunSettings, SlideInput
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.synth import SynthSpec, write_slide

if TYPE_CHECKING:
    from pyramidai_mpi.run.progress import RunProgress

GENERATED = ((1, 0.15), (2, 0.02), (3, 0.4), (4, 0.05), (5, 0.0))
"""Seed and share of tumour of each generated slide."""
ON_A_RANK = "--on-a-rank"


@dataclass(frozen=True)
class Said:
    """What the bar said at one moment.

    Attributes
    ----------
    at
        Share of the time that had passed.
    time, tiles
        What was predicted of all time and of all tiles, over what they were.
    is_exact
        Whether the bar took its number of tiles for counted.
    """

    at: float
    time: float
    tiles: float
    is_exact: bool


def parse_arguments() -> Options:
    """The command line."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slides", type=Path, nargs="*")
    parser.add_argument("--mpp", type=float, default=None)
    parser.add_argument("--ranks", type=int, action="append")
    parser.add_argument("--mode", choices=[mode.value for mode in Mode], default=Mode.PYRAMID.value)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--size", type=int, default=16000, help="of generated slides, pixels")
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args()


def said_at(reports: list[RunProgress], share: float) -> Said:
    """What the bar said first after `share` of the time."""
    last = reports[-1]
    report = next(r for r in reports if r.spent_s >= share * last.spent_s)
    assert report.left_s is not None
    assert report.tiles.total is not None
    return Said(
        report.spent_s / last.spent_s,
        (report.spent_s + report.left_s) / last.spent_s,
        report.tiles.total / last.tiles.done,
        report.tiles.is_exact,
    )


def watch(slide: Path, mpp: float | None, mode: Mode, model: Path, output: Path) -> None:
    """One rank of a run; rank 0 prints what the bar said, as JSON."""
    from mpi4py import MPI

    from pyramidai_mpi.run.run import run_slide

    reports: list[RunProgress] = []
    settings = RunSettings(SlideInput(slide, mpp), ModelChoice(model), Output(output, overwrite=True), mode=mode)
    run_slide(MPI.COMM_WORLD, settings, reports.append)
    if MPI.COMM_WORLD.rank == 0:
        tiles = [report for report in reports if not report.phase and report.tiles.share is not None]
        said = [asdict(said_at(tiles, share)) for share in (0.1, 0.25, 0.5)]
        print(json.dumps({"seconds": tiles[-1].spent_s, "tiles": tiles[-1].tiles.done, "said": said}))


def main() -> None:
    """Run all slides, print a table."""
    options = parse_arguments()
    model = options.model or default_model()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        slides = options.slides or [_generated(Path(folder), options.size, *which) for which in GENERATED]
        print(f"{'slide':36} {'ranks':>5} {'tiles':>6} {'s':>6}   at 10 %        at 25 %        at 50 %  (time, tiles)")
        for slide in slides:
            for ranks in options.ranks or [1, 2]:
                for _ in range(options.repeats):
                    arguments = [slide, "-" if options.mpp is None else options.mpp, options.mode, model, folder]
                    program = ["-m", "bench.speed.progress_estimate", ON_A_RANK, *map(str, arguments)]
                    row = json.loads(output_of(ranks, program))
                    rows.append({"slide": slide.name, "ranks": ranks, "mode": options.mode} | row)
                    figures = "   ".join(f"{said['time']:5.2f}, {said['tiles']:5.2f}" for said in row["said"])
                    exact = "  exact" if row["said"][1]["is_exact"] else ""
                    print(
                        f"{slide.name:36} {ranks:5} {row['tiles']:6} {row['seconds']:6.1f}   {figures}{exact}",
                        flush=True,
                    )
    quarter = [row["said"][1] for row in rows]
    within = sum(all(0.7 <= said[name] <= 1.3 for name in ("time", "tiles")) for said in quarter)
    print(f"at a quarter of the time within 30 %: {within} of {len(rows)} runs")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def _generated(folder: Path, size: int, seed: int, tumor_share: float) -> Path:
    path = folder / f"seed {seed}, tumour {tumor_share:g}.tif"
    write_slide(SynthSpec(size, size, seed=seed, tumor_share=tumor_share), path)
    return path


if __name__ == "__main__":
    if sys.argv[1:2] == [ON_A_RANK]:
        slide, mpp, mode, model, folder = sys.argv[2:]
        watch(Path(slide), None if mpp == "-" else float(mpp), Mode(mode), Path(model), Path(folder, "watched.h5"))
    else:
        main()
