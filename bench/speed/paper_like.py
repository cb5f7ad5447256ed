"""The paper's loop on one core: the pyramid, one tile read and classified at a time, nothing shared or overlapped.

    python -m bench.speed.paper_like SLIDE --model DIR [--mpp X]

Each tile is read with OpenSlide by itself and given to onnxruntime alone, as the paper's program calls its network
once a tile; children go on a stack. Prints tiles and seconds of the loop as JSON.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from bench.command_line import command_line
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.run.networks import open_package
from pyramidai_mpi.run.opening import open_under, rule_of, segment_slide


def main() -> None:
    """Run the loop once."""
    parser = command_line(__doc__)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--mpp", type=float, default=None)
    arguments = parser.parse_args()
    package = open_package(arguments.model, check_networks=False).with_positive_class(None)
    slide = open_under(SlideInput(arguments.slide, arguments.mpp, reader="openslide"), package)
    rule = rule_of(slide, segment_slide(slide))
    engines = [OnnxEngine(level, package, batch_shape=1) for level in package.levels]
    for engine in engines:
        engine.predict(np.zeros((1, package.tile_size, package.tile_size, 3), np.uint8))
    started = time.perf_counter()
    stack, done = list(rule.roots()[:, np.newaxis]), 0
    while stack:
        tile = stack.pop()
        level, col, row = (int(tile[name][0]) for name in ("level", "col", "row"))
        pixels = slide.pyramid.read_tile(level, col, row)
        score = engines[level].predict(pixels[np.newaxis])[0][0, package.score_column]
        done += 1
        if level and score >= package.levels[level].threshold:
            stack += list(rule.children(tile)[:, np.newaxis])
    print(json.dumps({"tiles": done, "loop_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
