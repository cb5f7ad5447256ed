"""One slide, one digest: whatever the ranks, seeds, policies, batches, writers and features.

    python -m bench.faults.same_bits

Runs the real command on a generated slide in many ways and compares digests; prints a line a way and ends with 1 when
any differs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

from bench.command_line import command_line
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import mpirun

RANKS = (1, 2, 3, 5, 12, 48)
BATCH_SIZES = (1, 7, 64, 512)
POLICIES = ("static", "steal-one", "steal-half")


def ways(seeds: int) -> list[tuple[int, list[str]]]:
    """Number of ranks and options of every run."""
    by_ranks = [(ranks, []) for ranks in RANKS]
    by_seed = [(2 + seed % 4, ["--seed", str(seed)]) for seed in range(seeds)]
    by_batch = [(2, ["--batch-size", str(size)]) for size in BATCH_SIZES]
    by_policy = [(3, ["--policy", policy]) for policy in POLICIES]
    others = [(2, ["--features"]), (2, ["--reader", "openslide"]), (2, ["--writer", "serial"])]
    return list(chain(by_ranks, by_seed, by_batch, by_policy, others))


def main() -> None:
    """Command line of the bench."""
    parser = command_line(__doc__)
    parser.add_argument("--size", type=int, default=5000, help="side of the slide in pixels")
    parser.add_argument("--seeds", type=int, default=20, help="of the stealing")
    options = parser.parse_args()
    digests = set()
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "slide.tif"
        write_slide(SynthSpec(options.size, options.size, seed=1, tumor_share=0.2), slide)
        for number, (ranks, words) in enumerate(ways(options.seeds)):
            output = Path(folder) / f"{number}.h5"
            started = time.perf_counter()
            arguments = ["-m", "pyramidai_mpi", slide, "-o", output, "-q", *words]
            code = (
                subprocess.run([sys.executable, *map(str, arguments)], check=False).returncode
                if ranks == 1
                else mpirun(ranks, arguments, timeout=300).returncode
            )
            if code:
                raise SystemExit(f"{ranks} ranks {words}: exit {code}")
            digests.add(read_digest(output))
            print(f"{ranks:3} ranks {' '.join(words):25} {time.perf_counter() - started:6.1f} s  {read_digest(output)}")
            output.unlink()
    print(f"{number + 1} runs, {len(digests)} digest" + ("" if len(digests) == 1 else "s: NOT THE SAME"))
    raise SystemExit(len(digests) != 1)


if __name__ == "__main__":
    main()
