"""Inputs that fuzzing has found keep the program's promises: each is read, or refused in a line that blames it.

`tests/corpus/KIND` holds inputs that reach much of the program, and as ``found-WHAT`` those that once broke a promise;
``python -m bench.faults.fuzz`` finds more.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.faults.fuzz.kinds import KINDS
from bench.faults.fuzz.promise import Promises
from bench.faults.fuzz.target import Target
from pyramidai_mpi.base.errors import InputError, InternalError
from pyramidai_mpi.testing.launch import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

CORPUS = REPOSITORY / "tests" / "corpus"
NEEDED = {"checkpoints": "torch", "classifiers": "skops", "tables": "torch"}
SECONDS = 300


def replay(kind: str) -> None:
    """See that all promises are kept for the corpus of a kind."""
    paths = sorted((CORPUS / kind).iterdir())
    assert paths
    words = [sys.executable, "-m", "bench.faults.fuzz", kind, "--replay", *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, cwd=REPOSITORY)
    assert done.returncode == 0, f"{done.stdout[-5000:]} {done.stderr[-3000:]}"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NEEDED])
def test_of_every_input_of_the_corpus_all_promises_are_kept(kind):
    replay(kind)


@pytest.mark.parametrize("kind", [kind for kind, library in NEEDED.items() if library == "torch"])
def test_what_needs_torch(kind):
    pytest.importorskip("torch", reason="pip install 'pyramidai-mpi[train]'")
    replay(kind)


@pytest.mark.parametrize("kind", [kind for kind, library in NEEDED.items() if library == "skops"])
def test_what_needs_skops(kind):
    pytest.importorskip("skops", reason="pip install 'pyramidai-mpi[classify]'")
    replay(kind)


def test_every_kind_has_its_place_in_the_corpus_and_every_place_its_kind():
    assert {path.name for path in CORPUS.iterdir()} == set(KINDS)


def test_the_corpus_stays_small():
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) < 1_500_000
    assert max(sizes) <= 1 << 15


def raising(error: Exception):
    def read(data: bytes, folder: Path) -> None:
        raise error

    return read


def writing(path: Path):
    return lambda data, folder: path.write_bytes(data)


def starting(data: bytes, folder: Path) -> None:
    subprocess.run(["true"], check=True)


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (raising(ValueError("x")), "ValueError at"),
        (raising(MemoryError()), "wants memory"),
        (raising(RecursionError()), "RecursionError"),
        (raising(InternalError("x")), "blames with 70"),
        (raising(InputError("x" * 5000)), "more than a line"),
        (starting, "outside its folder: subprocess.Popen"),
    ],
)
def test_a_broken_promise_is_seen(tmp_path, read, what):
    broken = Promises(Target(read, lambda _: {}), tmp_path).broken_by(b"x")
    assert broken is not None
    assert broken.what.startswith(what)


def test_a_file_outside_is_seen(tmp_path):
    (tmp_path / "home").mkdir()
    outside = tmp_path / "outside"
    broken = Promises(Target(writing(outside), lambda _: {}), tmp_path / "home").broken_by(b"x")
    assert broken is not None
    assert broken.what.startswith("outside its folder: open")


def test_what_is_read_or_refused_in_a_line_is_no_finding(tmp_path):
    promises = Promises(Target(raising(InputError("no slide")), lambda _: {}), tmp_path)
    assert promises.broken_by(b"x") is None
    fine = Target(lambda data, folder: (folder / "a").write_bytes(data), lambda _: {})
    assert Promises(fine, tmp_path).broken_by(b"x") is None
