"""A training killed at random moments, and resumed until it ends: the same bits as one that nobody disturbed.

    python -m bench.training.kills --work FOLDER [--kills 50] [--ranks 2] [--seed 1] -- train ... --epochs 6

The words after `--` are a command that trains (`train`, `train-slides`, `train-whole`), without -o and --work, which
are set here, as is `--save-every 0`. First it runs undisturbed on one rank. Then it is started on `--ranks` ranks again
and again, with `--resume`, and a random rank is killed (SIGKILL) at a random moment of what the undisturbed run took,
its start counted, until it ends; and all of that anew, until there were so many kills. Each time its networks and its
log are compared, byte by byte. Prints kills, ends, and how many were the same; exits with 1 when one was not.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.command_line import command_line
from pyramidai_mpi.testing.launch import kill, started

if TYPE_CHECKING:
    from bench.command_line import Options

_COMPARED = ("*.onnx", "log.csv")


def main() -> None:
    """Kill, resume, compare."""
    parser = command_line(__doc__)
    # the ranks run elsewhere
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("words", nargs="+")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    undisturbed = options.work / "undisturbed"
    seconds = trained(1, options.words, undisturbed)
    if not contents(undisturbed):
        raise SystemExit(f"{undisturbed}: holds nothing to compare")
    rng = random.Random(options.seed)
    kills, ends, same = 0, 0, 0
    while kills < options.kills:
        out = options.work / "killed"
        for path in (out, out.with_name("killed.work")):
            shutil.rmtree(path, ignore_errors=True)
        kills += killed_and_resumed(options, out, seconds, rng, options.kills - kills)
        ends += 1
        same += contents(out) == contents(undisturbed)
        print(f"{kills} kills, {ends} ends, {same} the same", flush=True)
    sys.exit(int(same != ends))


def command_of(words: list[str], out: Path) -> list[str]:
    """What is started."""
    work = out.with_name(f"{out.name}.work")
    return ["-m", "pyramidai_mpi", *words, "-o", str(out), "--work", str(work), "--save-every", "0", "-q", "--resume"]


def trained(ranks: int, words: list[str], out: Path) -> float:
    """Train without disturbance, unless that was done; seconds."""
    begun = time.monotonic()
    if not out.exists():
        with started(ranks, command_of(words, out)) as job:
            if job.wait(3600):
                raise SystemExit(job.output())
        (out.parent / "seconds").write_text(str(time.monotonic() - begun))
    return float((out.parent / "seconds").read_text())


def killed_and_resumed(options: Options, out: Path, seconds: float, rng: random.Random, most: int) -> int:
    """Kill and resume until it ends; how often it was killed."""
    kills = 0
    while True:
        with started(options.ranks, command_of(options.words, out)) as job:
            end = time.monotonic() + rng.uniform(0.3, 1.0) * seconds
            while kills < most and job.launcher.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            ranks = job.ranks() if kills < most and job.launcher.poll() is None else {}
            if ranks:
                kill(rng.choice(list(ranks.values())))
                kills += 1
            code = job.wait(3600)
            if code == 0 or out.exists():  # killed on its way out
                return kills
            if not ranks:
                raise SystemExit(f"ended with {code}, and nobody had killed it\n{job.output()}")


def contents(folder: Path) -> dict[str, bytes]:
    """What is compared, by name."""
    found = [path for pattern in _COMPARED for path in sorted(folder.rglob(pattern))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


if __name__ == "__main__":
    main()
