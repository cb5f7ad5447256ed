"""A host that sees something else is named, and no rank waits for ever: random pairs of what it sees and which it is.

More of them, with the Python of either MPI:
``PYRAMIDAI_PAIRS=20 PYRAMIDAI_SEED=7 pytest tests/cluster/test_other_views.py``
"""

from __future__ import annotations

import importlib.metadata
import os
import random
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mpi4py
import pytest

import pyramidai_mpi
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.cluster.conftest import COMPUTE_HOSTS
from tests.mpi.test_start import make_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.conftest import Hosts

N_PAIRS = int(os.environ.get("PYRAMIDAI_PAIRS", "6"))
SEED = int(os.environ.get("PYRAMIDAI_SEED", "1"))


@dataclass(frozen=True)
class View:
    """What one host sees otherwise.

    Attributes
    ----------
    path
        What, in the place or as a whole path.
    make
        Makes of a copy of it what that host sees instead.
    words
        What is started, in the place.
    code
        Exit code of all ranks.
    """

    path: str | Path
    make: Callable[[Path], None]
    words: tuple[str, ...]
    code: int = 65


def emptied(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def without(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        (path / name).unlink()

    return make


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return make


def with_more(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def with_a_file(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        emptied(path)
        (path / name).write_text("somebody's")

    return make


MODEL = ("--model", "models/m")
COHORT = ("slides", *MODEL, "--results-dir", "out/results")
TABLE = ("--slides", "tables/list.csv", *COHORT[1:])
SINGLE = ("slides/a.tif", *MODEL, "-o", "out/results/a.h5")
IN_FOLDER = (*COHORT, "--roi", "rois")
IN_FILE = (*SINGLE, "--roi", "rois/a.geojson")
VERSION = f'__version__ = "{pyramidai_mpi.__version__}"'
PACKAGE = REPOSITORY / "pyramidai_mpi"
METADATA = Path(str(importlib.metadata.distribution("simplejpeg")._path)) / "METADATA"  # type: ignore[attr-defined]
VIEWS = {
    "no slides": View("slides", emptied, COHORT),
    "a slide less": View("slides", without("b.tif"), COHORT),
    "no slide": View("slides", emptied, SINGLE),
    "another slide": View("slides/a.tif", with_more, SINGLE),
    "no table": View("tables", emptied, TABLE),
    "another table": View("tables/list.csv", replaced("b.tif", "c.tif"), TABLE),
    "no model": View("models", emptied, COHORT),
    "another model": View("models/m/model.yaml", replaced("threshold: 0.3", "threshold: 0.31"), COHORT),
    "another network": View("models/m/level1.onnx", with_more, SINGLE),
    "no folder for results": View("out", emptied, COHORT, 74),
    "another folder for results": View("out/results", emptied, COHORT, 74),
    "no folder for the result": View("out", emptied, SINGLE, 74),
    "another folder, with the result": View("out/results", with_a_file("a.h5"), SINGLE, 74),
    "another folder, with a table": View("out/results", with_a_file("summary.csv"), COHORT, 74),
    "no region": View("rois", emptied, IN_FILE),
    "another region": View("rois/a.geojson", replaced("300", "301"), IN_FILE),
    "a region less": View("rois", without("b.geojson"), IN_FOLDER),
    "another version": View(PACKAGE / "__init__.py", replaced(VERSION, '__version__ = "99.1"'), SINGLE),
    "another copy of the program": View(PACKAGE / "pyramid" / "grid.py", with_more, COHORT),
    "another library": View(METADATA, replaced("\nVersion: ", "\nVersion: 99."), SINGLE),
    "no MPI": View(Path(mpi4py.__file__).parent, emptied, SINGLE, 70),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides, tables, regions, a model and a place for results, each in a folder of its own."""
    place = make_place(tmp_path_factory.mktemp("place"))
    for folder in ("tables", "rois", "models", "out"):
        (place / folder).mkdir()
    (place / "tables" / "list.csv").write_text("wsi\n../slides/a.tif\n../slides/b.tif\n")
    for name in ("a", "b"):
        shutil.copy(place / "roi.geojson", place / "rois" / f"{name}.geojson")
    (place / "model").rename(place / "models" / "m")
    (place / "results").rename(place / "out" / "results")
    return place


def random_pairs(n: int) -> list[tuple[str, str]]:
    """What and on which host; every kind once before any comes again."""
    draw = random.Random(SEED)
    kinds: list[str] = []
    while len(kinds) < n:
        kinds += draw.sample(sorted(VIEWS), len(VIEWS))
    return [(kind, draw.choice(COMPUTE_HOSTS)) for kind in kinds[:n]]


@pytest.mark.parametrize(("kind", "host"), random_pairs(N_PAIRS))
def test_a_host_that_sees_something_else_is_named_and_none_waits(
    kind: str, host: str, hosts: Hosts, place: Path, tmp_path: Path
) -> None:
    view = VIEWS[kind]
    path = place / view.path
    other = tmp_path / path.name
    shutil.copytree(path, other) if path.is_dir() else shutil.copy(path, other)
    view.make(other)
    with ExitStack() as stack:
        stack.callback(emptied, place / "out" / "results")
        stack.enter_context(hosts.another_file(host, path, other))
        job = hosts.pyramidai(*view.words, ranks_per_host=1, cwd=place)
        assert not list((place / "out" / "results").iterdir())
    assert job.returncode == view.code
    assert not job.left_over
    lines = [line for line in job.stderr.splitlines() if "pyramidai: error: " in line]
    assert lines
    for line in lines:
        assert f"host {host}" in line
    assert "Traceback" not in job.stderr
