"""The paper's Fig. 6, simulated: tiles of the busiest worker, for ways of dealing the roots and ways of balancing.

    python -m bench.balance.fig6 [--workers 1..12/1] [--batch-size 16] [--plot PREFIX] [--json FILE]

Three slides as in the paper (see `bench.balance.fig7`), each on its own: one with large tumours, one with several
small ones,
one without any. The trees come from real lesions (see `bench.paper.lesions`), 0.33 / 0.33 / 0.31 s a tile of level 0 /
1 / 2 as the paper measured. Tiles are means over the slides, times their sums. How full of tissue the roots are is not
modelled: the reference run has all 16 tiles below each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.balance.balance import BATCH_SIZE, FALSE_ALARMS, ROOTS
from bench.balance.fig7 import SLIDES
from bench.paper.lesions import LEVELS, OUTLINES, LesionTree, build_tree, load_outlines
from pyramidai_mpi.cli.simulate import parse_workers
from pyramidai_mpi.simulate.costs import Costs
from pyramidai_mpi.simulate.dealing import Dealing
from pyramidai_mpi.simulate.forest import plant
from pyramidai_mpi.simulate.plot import write_plots
from pyramidai_mpi.simulate.report import as_json, table_lines
from pyramidai_mpi.simulate.study import Balancing, Setting, Work, compare

LEVEL_S = (0.33, 0.33, 0.31)
DEALINGS = (Dealing.ROUND_ROBIN, Dealing.RANDOM, Dealing.BLOCK)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1..12/1,16,24,48", help="as for `pyramidai simulate`")
    parser.add_argument("--roots", type=int, default=ROOTS)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--outlines", type=Path, default=OUTLINES, help="JSON of lesion outlines, may be gzipped")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--plot", type=Path, default=None, help="write PREFIX.svg and PREFIX.png")
    return parser.parse_args()


def work_of(tree: LesionTree) -> Work:
    """A tree as work to be simulated."""
    tiles, parents = tree.all_tiles()
    return Work(plant(tiles["level"], parents), len(tree.roots) * 4 ** (LEVELS - 1))


def main() -> None:
    """Simulate, print, draw."""
    options = parse_arguments()
    outlines = load_outlines(options.outlines)
    works = [
        work_of(build_tree(outlines[slide] if slide else {}, options.roots, FALSE_ALARMS)) for slide in SLIDES.values()
    ]
    setting = Setting(Costs(LEVEL_S, options.batch_size))
    rows = compare(works, parse_workers(options.workers), setting, DEALINGS, list(Balancing))
    for line in table_lines(rows):
        print(line)
    if options.json is not None:
        options.json.write_text(as_json(rows, None, setting))
    if options.plot is not None:
        write_plots(rows, options.plot, overwrite=True)


if __name__ == "__main__":
    main()
