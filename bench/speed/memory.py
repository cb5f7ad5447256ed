"""Memory of each rank of a real run, looked at every 50 ms: what it holds, and its share of what ranks hold together.

    python -m bench.speed.memory [--ranks 2] [--json FILE] -- SLIDE --model DIR -o OUT.h5 [OPTION]...

RSS counts pages that several processes map once for each, PSS (proportional) in equal shares; private pages are the
rank's alone. What the kernel has kept of files that were mapped and let go is in none of them. Peaks, MB of 10^6 bytes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.command_line import command_line
from bench.figures import Figure, report

_EVERY_S = 0.05
_PARTS = ("Rss", "Pss", "Pss_Anon", "Pss_File")


def ranks_under(launcher: int) -> list[int]:
    """Processes of Python below a launcher that no process of Python has started: ranks, not the children they try."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")
        except OSError:  # it has ended
            continue
        number = int(path.parent.name)
        names[number], parents[number] = words[0].partition("(")[2], int(words[2].split()[1])
    found = []
    for number, name in names.items():
        above = parents[number]
        if not name.startswith("python") or names.get(above, "").startswith("python"):
            continue
        while above in parents and above != launcher:
            above = parents[above]
        if above == launcher:
            found.append(number)
    return sorted(found)


def memory_of(process: int) -> dict[str, int]:
    """Bytes by kind, see `_PARTS`; empty once it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}
    said = {line.partition(":")[0]: line.split()[1] for line in lines[1:]}
    return {part: int(said[part]) << 10 for part in _PARTS if part in said}


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("words", nargs="+", metavar="WORD", help="of `pyramidai run`")
    options = parser.parse_args()
    program = [sys.executable, "-m", "pyramidai_mpi", "run", "--no-progress", "-q", *options.words]
    job = subprocess.Popen(["mpirun", "-n", str(options.ranks), *program])
    peaks: dict[int, dict[str, int]] = {}
    while job.poll() is None:
        for process in ranks_under(job.pid):
            seen = peaks.setdefault(process, dict.fromkeys(_PARTS, 0))
            for part, size in memory_of(process).items():
                seen[part] = max(seen[part], size)
        time.sleep(_EVERY_S)
    if job.returncode:
        raise SystemExit(job.returncode)
    figures = [
        Figure(f"peak {part}", size / 1e6, "MB", {"rank": rank})
        for rank, process in enumerate(sorted(peaks))
        for part, size in peaks[process].items()
    ]
    report(figures, options.json)


if __name__ == "__main__":
    main()
