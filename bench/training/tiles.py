"""What training over ranks costs and gives: against plain torch, on two ranks, and with a slow one among them.

    python -m bench.training.tiles [--json FILE] [--arch resnet18] [--side 224] [--repeats 3] [--only plain|ranks|slow]

Figures: (plain) images/s of `train`'s step over those of a plain loop of torch, on one rank, steps in turn; (ranks)
speed of two ranks over one, and over two processes that train by themselves on half of the batch each; (slow) step time
on four ranks, the last three times slower, dealt once over stolen. Medians; the machine should be quiet.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.on_ranks import output_of
from pyramidai_mpi.testing.launch import launcher

if TYPE_CHECKING:
    from bench.command_line import Options

PROGRAM = ["-m", "bench.training.tile_steps"]


def main() -> None:
    """Measure what is asked for."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--arch", default="resnet18", help="as `train` has it")
    parser.add_argument("--side", type=int, default=224, help="of a tile in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["plain", "ranks", "slow"])
    options = parser.parse_args()
    measures = {"plain": against_plain, "ranks": on_two_ranks, "slow": with_a_slow_rank}
    figures = [
        figure for name, measure in measures.items() if options.only in {None, name} for figure in measure(options)
    ]
    report(figures, options.json)


def seconds_of(ranks: int, *words: object) -> dict[str, list[float]]:
    """Of each step, by way."""
    found: dict[str, list[float]] = json.loads(output_of(ranks, [*PROGRAM, *map(str, words)]).splitlines()[-1])
    return found


def against_plain(options: Options) -> list[Figure]:
    """One rank against the loop that everybody writes."""
    figures = []
    for arch, side, steps in (("small", 224, 12), (options.arch, options.side, 3)):
        setting = {"arch": arch, "side": side, "batch": 32, "micro_batch": 8}
        ratios, cpu_ratios, speeds = [], [], []
        for _ in range(options.repeats):
            found = seconds_of(1, "--arch", arch, "--side", side, "--steps", steps, "--plain")
            exact, plain = (statistics.median(found[way]) for way in ("exact", "plain"))
            ratios.append(plain / exact)
            cpu_ratios.append(statistics.median(found["plain cpu"]) / statistics.median(found["exact cpu"]))
            speeds.append(32 / exact)
        figures.append(Figure("images/s of train, one rank", statistics.median(speeds), "1/s", setting))
        figures.append(Figure("over plain torch's", statistics.median(ratios), "ratio", setting))
        figures.append(Figure("the same by CPU seconds", statistics.median(cpu_ratios), "ratio", setting))
    return figures


def on_two_ranks(options: Options) -> list[Figure]:
    """Two ranks against one, and against two processes with half of the batch each."""
    setting = {"arch": options.arch, "side": options.side, "batch": 32, "micro_batch": 8}
    words = ["--arch", options.arch, "--side", options.side, "--steps", 3]
    of_one, of_separate = [], []
    for _ in range(options.repeats):
        one, two = (statistics.median(seconds_of(ranks, *words)["exact"]) for ranks in (1, 2))
        of_one.append(one / two)
        of_separate.append(two_separate(words) / two)
    return [
        Figure("speed of two ranks over one", statistics.median(of_one), "ratio", setting),
        Figure("over two separate processes", statistics.median(of_separate), "ratio", setting),
    ]


def two_separate(words: list[object]) -> float:
    """Median seconds of a step of half the batch, in two processes at the same time."""
    command = [launcher(), "-n", "1", sys.executable, *PROGRAM, *map(str, words), "--batch", "16"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = [json.loads(process.communicate()[0].splitlines()[-1])["exact"] for process in started]
    return statistics.median(found[0] + found[1])


def with_a_slow_rank(options: Options) -> list[Figure]:
    """Units that sleep, so that four ranks have room on two cores."""
    words = ["--arch", "small", "--side", 32, "--batch", 256, "--micro-batch", 4, "--unit-ms", 100, "--slow", 3]
    ratios = []
    for _ in range(options.repeats):
        static, stolen = (
            statistics.median(seconds_of(4, *words, "--steps", 3, "--policy", policy)["exact"])
            for policy in ("static", "steal-half")
        )
        ratios.append(static / stolen)
    setting = {"ranks": 4, "units": 64, "unit_ms": 100, "slow": "the last, 3 times"}
    return [Figure("step time, dealt once over stolen", statistics.median(ratios), "ratio", setting)]


if __name__ == "__main__":
    main()
