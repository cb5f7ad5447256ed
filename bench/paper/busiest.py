"""The paper's Fig. 6, simulated: tiles of the busiest worker, for ways of dealing the roots and ways of balancing.

    python -m bench.paper.busiest [--workers 1..12/1] [--batch-size 16] [--plot PREFIX] [--json FILE]

Three slides as in the paper, each on its own: one with large tumours, one with several small ones, one without any. The
trees come from real lesions (see `bench.paper.lesions`), 0.33 / 0.33 / 0.31 s a tile of level 0 / 1 / 2 as the paper
measured. Tiles are means over the slides, times their sums. How full of tissue the roots are is not modelled: the
reference run has all 16 tiles below each. `bench.paper.reproduce_paper` does the same with three slides of each of its
cohorts, whose trees are those of chosen thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import command_line
from bench.paper.lesions import BATCH_SIZE, LEVELS, PAPER_SLIDES, ROOTS, LesionTree, tree_of
from bench.paper.phase_times import PAPER_SECONDS
from pyramidai_mpi.cli.simulate import parse_workers
from pyramidai_mpi.simulate.costs import Costs
from pyramidai_mpi.simulate.dealing import Dealing
from pyramidai_mpi.simulate.forest import plant
from pyramidai_mpi.simulate.plot import write_plots
from pyramidai_mpi.simulate.report import as_json, table_lines
from pyramidai_mpi.simulate.study import Balancing, Row, Setting, Work, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.truth.labelled_tree import LabelledTree

DEALINGS = (Dealing.ROUND_ROBIN, Dealing.RANDOM, Dealing.BLOCK)
BALANCINGS = (Balancing.NONE, Balancing.EACH_LEVEL, Balancing.STEAL_ONE, Balancing.ORACLE)
"""As in the paper; `simulate` knows more."""


ENOUGH_TILES = 30
"""Ideal tiles a worker below which no balance is read off: a slide smaller than its workers has none."""


def played_run(tree: LabelledTree, thresholds: Sequence[float]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Level of each tile that a pyramidal run of these thresholds analyses (N,), and the row of its parent (N,).

    Roots come first, in row-major order; their parent is -1.
    """
    level, parent = [], []
    first, rows_above = 0, np.zeros(0, np.int64)
    for n, reached in reversed(list(enumerate(tree.reached(thresholds)))):
        above = tree.levels[n].parent[reached]
        parent.append(np.where(above < 0, -1, rows_above[above] if len(rows_above) else -1))
        level.append(np.full(len(above), n, np.uint8))
        rows_above = first + np.cumsum(reached) - 1
        first += len(above)
    return np.concatenate(level), np.concatenate(parent).astype(np.int32)


def simulate_loads(trees: Sequence[LabelledTree], thresholds: Sequence[float], workers: Sequence[int]) -> list[Row]:
    """Slides one after the other; tiles one at a time, as the paper's workers take them."""
    works = [Work(plant(*played_run(tree, thresholds)), tree.n_reference_tiles) for tree in trees]
    setting = Setting(Costs(PAPER_SECONDS.analysis, batch_size=1))
    return compare(works, workers, setting, DEALINGS, (*BALANCINGS, Balancing.REFERENCE))


@dataclass(frozen=True)
class Ordering:
    """What the paper reads off its Fig. 6, on ours.

    Attributes
    ----------
    block_worst
        Share of the numbers of workers (2 to `most_workers`) at which block dealing, without balancing, has the busiest
        worker of all dealings.
    excess
        For each dealing without balancing, mean and largest share by which the busiest worker exceeds the ideal.
    stealing_excess
        The largest share by which stealing one tile exceeds it, over all dealings, from 4 workers on.
    most_workers
        The most workers with `ENOUGH_TILES` each: all of this is for no more.
    """

    block_worst: float
    excess: dict[Dealing, tuple[float, float]]
    stealing_excess: float
    most_workers: int


def read_ordering(rows: Sequence[Row]) -> Ordering:
    """The paper's three claims, measured."""
    tiles = {(row.workers, row.balancing, row.dealing): row.busiest_tiles for row in rows}
    ideal = {row.workers: row.busiest_tiles for row in rows if row.balancing is Balancing.ORACLE}
    workers = sorted(n for n, busiest in ideal.items() if n > 1 and busiest >= ENOUGH_TILES)
    over = {
        (balancing, dealing): np.array([tiles[n, balancing, dealing] / ideal[n] - 1 for n in workers])
        for balancing in (Balancing.NONE, Balancing.STEAL_ONE)
        for dealing in DEALINGS
    }
    unbalanced = np.stack([over[Balancing.NONE, dealing] for dealing in DEALINGS])
    from_4 = np.array(workers) >= 4
    return Ordering(
        float((unbalanced.argmax(axis=0) == DEALINGS.index(Dealing.BLOCK)).mean()),
        {dealing: (float(row.mean()), float(row.max())) for dealing, row in zip(DEALINGS, unbalanced, strict=True)},
        max(float(over[Balancing.STEAL_ONE, dealing][from_4].max(initial=0.0)) for dealing in DEALINGS),
        max(workers),
    )


def work_of(tree: LesionTree) -> Work:
    """A tree as work to be simulated."""
    tiles, parents = tree.all_tiles()
    return Work(plant(tiles["level"], parents), len(tree.roots) * 4 ** (LEVELS - 1))


def main() -> None:
    """Simulate, print, draw."""
    parser = command_line(__doc__, "outlines", "json", "plot")
    parser.add_argument("--workers", default="1..12/1,16,24,48", help="as for `pyramidai simulate`")
    parser.add_argument("--roots", type=int, default=ROOTS)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    options = parser.parse_args()
    works = [work_of(tree_of(options.outlines, slide, options.roots)) for slide in PAPER_SLIDES.values()]
    setting = Setting(Costs(PAPER_SECONDS.analysis, options.batch_size))
    rows = compare(works, parse_workers(options.workers), setting, DEALINGS, list(Balancing))
    for line in table_lines(rows):
        print(line)
    if options.json is not None:
        options.json.write_text(as_json(rows, None, setting))
    if options.plot is not None:
        write_plots(rows, options.plot, overwrite=True)


if __name__ == "__main__":
    main()
