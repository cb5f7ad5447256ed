"""What an installation takes: bytes on the disk with all that it brings, and the time until Python has imported it.

    python -m bench.speed.footprint [--repeats N] [--json FILE]

The size is that of the files of every distribution that a plain `pip install .` brings, as pip has recorded them,
without compiled .pyc files; MPI and other extras are not in it. Times are of whole processes, in turn with a bare
interpreter.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import distribution

from packaging.requirements import Requirement

from bench.command_line import command_line
from bench.figures import Figure, report

_NAME = "pyramidai-mpi"
_WAYS = {
    "a bare interpreter": ["-c", "pass"],
    "import pyramidai_mpi": ["-c", "import pyramidai_mpi"],
    "pyramidai --help": ["-m", "pyramidai_mpi", "--help"],
    "open_result, analyse": ["-c", "from pyramidai_mpi import open_result, analyse"],
}


@dataclass(frozen=True)
class Installed:
    """One distribution.

    Attributes
    ----------
    name, version
        As installed.
    megabytes
        Of its files, 10^6 bytes.
    """

    name: str
    version: str
    megabytes: float


def brought_by(name: str = _NAME) -> list[Installed]:
    """A distribution and all that it needs without extras, largest first; files of an editable one are not counted."""
    found: dict[str, Installed] = {}
    wanted = [name]
    while wanted:
        here = distribution(wanted.pop())
        if here.name.lower() in found:
            continue
        files = [path.locate() for path in here.files or () if path.suffix != ".pyc"]
        size = sum(path.stat().st_size for path in files if path.is_file())  # type: ignore[union-attr]
        found[here.name.lower()] = Installed(here.name, here.version, size / 1e6)
        needs = map(Requirement, here.requires or ())
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return sorted(found.values(), key=lambda one: -one.megabytes)


def main() -> None:
    """See the module."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--repeats", type=int, default=11, metavar="N", help="runs of each way  [default: 11]")
    options = parser.parse_args()
    everything = brought_by()
    for one in everything:
        print(f"{one.megabytes:8.1f} MB  {one.name} {one.version}")
    seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
    for _ in range(options.repeats):
        for way, arguments in _WAYS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            seconds[way].append(time.perf_counter() - started)
    figures = [Figure("installed", sum(one.megabytes for one in everything), "MB")]
    for way, times in seconds.items():
        ordered = sorted(times)
        print(f"{way}: median {ordered[len(ordered) // 2]:.3f} s, {ordered[0]:.3f} to {ordered[-1]:.3f} s")
        figures.append(Figure(way, ordered[len(ordered) // 2], "s"))
    report(figures, options.json)


if __name__ == "__main__":
    main()
