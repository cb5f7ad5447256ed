"""What the pyramid keeps and what it saves, on generated slides with known tumour.

    mpirun -n 2 python -m bench.paper.pyramid_gain [--size 20000x20000] [--seeds 1 2 3] [--json FILE]

For each slide one reference run (every level-0 tile under the roots) and one pyramidal run. A level-0 tile is positive
in truth when at least half of its tissue lies inside a tumour outline; the outlines are drawn on the result's own
tissue mask. Retention is the share of the reference run's true positives that the pyramidal run keeps.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.command_line import command_line
from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402 - reads the environment when it is loaded
from PIL import Image, ImageDraw  # noqa: E402

from bench.figures import Figure, report  # noqa: E402
from pyramidai_mpi.base.settings import RunSettings  # noqa: E402
from pyramidai_mpi.base.types import Decision, Mode  # noqa: E402
from pyramidai_mpi.cli.session import mpi_session  # noqa: E402
from pyramidai_mpi.models.shipped import default_model  # noqa: E402
from pyramidai_mpi.ranks.collectives import allgather, share_bytes  # noqa: E402
from pyramidai_mpi.run.run import run_slide  # noqa: E402
from pyramidai_mpi.synth import SynthSpec, parse_size, write_slide  # noqa: E402

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.run.report import RunReport


def tumor_share(truth: Path, result: RunReport, index: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Share of the tissue inside tumour outlines, for level-0 tiles (N, 2)."""
    tissue = result.result.tissue
    height, width = tissue.mask.shape
    drawn = Image.new("1", (width, height))
    draw = ImageDraw.Draw(drawn)
    for feature in json.loads(truth.read_text())["features"]:
        outline, *holes = feature["geometry"]["coordinates"]
        for ring, value in ((outline, 1), *((hole, 0) for hole in holes)):
            draw.polygon([(x / tissue.downsample, y / tissue.downsample) for x, y in ring], fill=value)
    inside = np.asarray(drawn) & tissue.mask
    side = round(result.result.levels[0].patch_size_level0 / tissue.downsample)
    shares = np.empty(len(index))
    for row, (t_col, t_row) in enumerate(index.tolist()):
        window = np.s_[t_row * side : (t_row + 1) * side, t_col * side : (t_col + 1) * side]
        shares[row] = inside[window].sum() / max(tissue.mask[window].sum(), 1)
    return shares


def positives(report_: RunReport) -> set[tuple[int, int]]:
    """Level-0 tiles that a run calls positive."""
    level0 = report_.result.tree.levels[0]
    return {(col, row) for col, row in level0.index[level0.decision == Decision.ZOOM].tolist()}


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--size", default="20000x20000")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tumor-share", type=float, default=0.15)
    arguments = parser.parse_args()
    width, height = parse_size(arguments.size)
    figures = []
    with mpi_session() as comm, tempfile.TemporaryDirectory() as own:
        folder = Path(share_bytes(comm, own.encode() if comm.rank == 0 else None).decode())
        for seed in arguments.seeds:
            slide = folder / f"{seed}.tif"
            if comm.rank == 0:
                write_slide(SynthSpec(width, height, seed=seed, tumor_share=arguments.tumor_share), slide)
            allgather(comm, np.zeros(1))
            runs = {}
            for mode in (Mode.REFERENCE, Mode.PYRAMID):
                output = folder / f"{seed}-{mode}.h5"
                runs[mode] = run_slide(
                    comm, RunSettings.of(slide=slide, model=default_model(), output=output, mode=mode)
                )
            reference, pyramid = runs[Mode.REFERENCE], runs[Mode.PYRAMID]
            if reference is None or pyramid is None:
                continue
            tiles = reference.result.tree.levels[0]
            share = tumor_share(slide.with_suffix(".geojson"), reference, tiles.index)
            called = tiles.decision == Decision.ZOOM
            true_positives = {tuple(index) for index in tiles.index[called & (share >= 0.5)].tolist()}
            setting = {"seed": seed, "size": arguments.size, "tumor_share": arguments.tumor_share}
            kept = len(true_positives & positives(pyramid)) / max(len(true_positives), 1)
            figures += [
                Figure("reference tiles", tiles.index.shape[0], "tiles", setting),
                Figure("pyramid tiles", pyramid.result.tree.n_tiles, "tiles", setting),
                Figure("reference true positives", len(true_positives), "tiles", setting),
                Figure("true positives kept", kept, "", setting),
                Figure("speedup in tiles", pyramid.speedup, "", setting),
                Figure("accuracy of level 0", float((called == (share >= 0.5)).mean()), "", setting),
            ]
        if comm.rank == 0:
            report(figures, arguments.json)
        allgather(comm, np.zeros(1))


if __name__ == "__main__":
    main()
