"""Fuzz what the program reads from outside, with coverage of its own modules, and see that its promises hold.

    pip install atheris
    python -m bench.faults.fuzz [KIND ...] --minutes 60 --corpus DIR
    python -m bench.faults.fuzz KIND --replay FILE ...
    python -m bench.faults.fuzz KIND --keep FOLDER --corpus DIR

Without a kind all take turns, ``--round`` minutes each, until each has had its ``--minutes``; what was done is added up
in DIR/figures.json, so that it can be stopped and started again. DIR/KIND holds inputs that reach something new, and
DIR/findings/KIND those that broke a promise (see `promise.py`), each with what happened beside it.

``--replay`` reads files as the fuzzer would, without atheris, under the same limits; exit code 1 when one of them
breaks a promise. ``--keep`` copies the smallest inputs of a corpus that together reach all that it reaches.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.command_line import command_line
from bench.faults.fuzz.kinds import KINDS, target_of
from bench.faults.fuzz.promise import Promises

_AT = re.compile(r"^#(\d+)\s.*?cov: (\d+)", re.MULTILINE)
_ENDS = ("crash-", "timeout-", "oom-", "leak-")
_GRACE_S = 120


def main() -> None:
    """Fuzz, replay or keep, as the options say."""
    parser = command_line(__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; without one, all")
    parser.add_argument("--minutes", type=float, default=60.0, help="for each kind in all")
    parser.add_argument("--round", type=float, default=4.0, help="minutes of one turn")
    parser.add_argument("--corpus", type=Path, default=Path("fuzz"), metavar="DIR")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--most", type=int, default=30, help="files to keep")
    given = parser.parse_args()
    unknown = set(given.kinds) - set(KINDS)
    if unknown or ((given.replay or given.keep) and len(given.kinds) != 1):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}" if unknown else "one kind, please")
    if given.replay:
        sys.exit(replay(given.kinds[0], given.replay))
    if given.keep:
        from bench.faults.fuzz.keeping import keep

        keep(given.kinds[0], given.corpus / given.kinds[0], given.keep, given.most)
        return
    fuzz(given.kinds or list(KINDS), given.corpus, given.minutes, given.round)


def replay(kind: str, paths: list[Path]) -> int:
    """Read files as the fuzzer would; 1 when one of them breaks a promise."""
    target = target_of(kind)
    found = 0
    with tempfile.TemporaryDirectory() as home:
        promises = Promises(target, Path(home))
        promises.silence()
        inputs = [(path, path.read_bytes()) for path in paths]
        # what is loaded late is loaded before memory is limited: by a first reading of all
        broken_by = {path: promises.broken_by(data) for path, data in inputs}
        promises.limit_memory()
        for path, data in inputs:
            broken = broken_by[path] or promises.broken_by(data)
            if broken is not None:
                found = 1
                print(f"{path}: {broken.what!a}\n{broken.details}".encode("ascii", "backslashreplace").decode())
    return found


def fuzz(kinds: list[str], corpus: Path, minutes: float, turn: float) -> None:
    """Let kinds take turns until each has had its minutes."""
    corpus.mkdir(parents=True, exist_ok=True)
    known = corpus / "figures.json"
    figures = json.loads(known.read_text()) if known.exists() else {}
    while waiting := [kind for kind in kinds if figures.get(kind, {}).get("minutes", 0.0) < minutes - 0.05]:
        kind = min(waiting, key=lambda one: figures.get(one, {}).get("minutes", 0.0))
        own = figures.setdefault(kind, {"minutes": 0.0, "executions": 0, "edges": 0, "starts": 0})
        seconds = min(turn, minutes - own["minutes"]) * 60
        started = time.monotonic()
        executions, edges = _one_turn(kind, corpus, max(int(seconds), 5), own["starts"])
        own["minutes"] += (time.monotonic() - started) / 60
        own["executions"] += executions
        own["edges"] = max(own["edges"], edges)
        own["starts"] += 1
        own["corpus"] = len(list((corpus / kind).glob("*")))
        own["findings"] = len(list((corpus / "findings" / kind).glob("*.txt")))
        temporary = known.with_suffix(".part")
        temporary.write_text(json.dumps(figures, indent=1))
        temporary.replace(known)
        print(f"{kind}: {own}", flush=True)


def _one_turn(kind: str, corpus: Path, seconds: int, seed: int) -> tuple[int, int]:
    """Executions and edges of one process, which may have ended early: then what ended it is a finding."""
    findings = corpus / "findings" / kind
    words = [kind, os.fspath(corpus / kind), os.fspath(findings), str(seconds), str(seed + 1)]
    log = corpus / f"{kind}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.faults.fuzz.fuzzing", *words], stdout=out, stderr=subprocess.STDOUT
        )
        try:
            process.wait(seconds + _GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    said = log.read_bytes().decode(errors="replace")
    for line in dict.fromkeys(line for line in said.splitlines() if line.startswith("FOUND ")):
        print(line, flush=True)
    for path in findings.glob("*") if findings.is_dir() else ():
        described = path.with_name(f"{path.name}.txt")
        if path.name.startswith(_ENDS) and path.suffix != ".txt" and not described.exists():
            described.write_text(f"ended the process ({process.returncode})\n{said[-6000:]}", errors="replace")
            print(f"FOUND {kind}: {path.name} ended the process", flush=True)
    if process.returncode and not any(word in said for word in ("libFuzzer:", "DONE")):
        shutil.copyfile(log, corpus / f"{kind}-{time.time():.0f}.failed.log")
        print(f"{kind}: the fuzzer itself ended with {process.returncode}, see {log}", flush=True)
    at = _AT.findall(said)
    return (int(at[-1][0]), max(int(edges) for _, edges in at)) if at else (0, 0)


if __name__ == "__main__":
    main()
