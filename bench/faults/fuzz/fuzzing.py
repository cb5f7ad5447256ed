"""One process that fuzzes one kind of input by atheris, with the program's coverage; started by ``bench.faults.fuzz``.

It goes on after an error that it can catch. What ends a process (a crash of a library, an input without end, memory
that is used up) leaves libFuzzer's file, and whoever started this one starts another.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

_MEMORY = Path("/dev/shm")
_LONGEST_S = 60
"""Of wall time: where not even Python's code gets a turn."""


def main(kind: str, corpus: Path, findings: Path, seconds: int, seed: int) -> None:
    """Fuzz for so long; new inputs go to the corpus, those that break a promise to the findings."""
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as home:
        with atheris.instrument_imports(include=["pyramidai_mpi"], enable_loader_override=False):
            from bench.faults.fuzz.kinds import target_of
            from bench.faults.fuzz.promise import Promises

            target = target_of(kind)
            with tempfile.TemporaryDirectory() as folder:
                seeds = target.seeds(Path(folder))
            promises = Promises(target, Path(home))
            promises.silence()
            for name, data in seeds.items():
                (corpus / f"seed-{name}").write_bytes(data)
                promises.broken_by(data)  # loads what is loaded late
        known: set[str] = {path.read_text().partition("\n")[0] for path in findings.glob("*.txt")}

        def one(data: bytes) -> None:
            broken = promises.broken_by(data)
            if broken is not None and broken.what not in known:
                known.add(broken.what)
                name = findings / hashlib.sha256(broken.what.encode()).hexdigest()[:12]
                name.write_bytes(data)
                name.with_suffix(".txt").write_text(f"{broken.what}\n{broken.details}\n", errors="backslashreplace")
                print(f"FOUND {kind}: {broken.what!a}", flush=True)

        def mutate(data: bytes, most: int, number: int) -> bytes:
            chance = Random(number)

            def blind(part: bytes) -> bytes:
                return bytes(atheris.Mutate(part, max(len(part) * 2, 64)))

            if target.mutate is None or chance.random() < 0.3:
                return bytes(atheris.Mutate(data, most))
            try:
                changed = target.mutate(data, chance, blind)
            except Exception:  # of what cannot be taken apart any more
                changed = blind(data)
            return changed if len(changed) <= most else bytes(atheris.Mutate(data, most))

        words = corpus.parent / f"{corpus.name}.words"
        words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words))
        arguments = [
            sys.argv[0], f"-max_total_time={seconds}", f"-timeout={_LONGEST_S}", f"-max_len={target.most_bytes}",
            "-rss_limit_mb=0", f"-artifact_prefix={findings}/", "-print_final_stats=1", f"-seed={seed}",
            "-len_control=0", "-reload=0", *([f"-dict={words}"] if target.words else []), str(corpus),
        ]  # fmt: skip
        atheris.Setup(arguments, one, custom_mutator=mutate, internal_libfuzzer=True)
        promises.limit_memory()
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
