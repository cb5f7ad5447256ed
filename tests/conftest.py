"""Things that tests of several rooms ask for by name."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.tiffs import halved, textured, write_slide

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

# machines are shared: a slow example is no failure
# and the suite has to be over in minutes: tests that need more examples say so
hypothesis.settings.register_profile("shared-machine", deadline=None, max_examples=40)
hypothesis.settings.load_profile("shared-machine")

# not the caller's: what is made ready for later starts would be there for later tests, too
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="pyramidai-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

SLOW_S, MPI_S, OTHER_S = 10.0, 4.0, 0.25
"""About what a test takes, by its marks."""


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist hand out files in the order of `pytest_collection_modifyitems`, not by numbers of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: with one of them at the end, one process works and the others wait."""
    seconds: Counter[Path] = Counter()
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        seconds[item.path] += SLOW_S if "slow" in marks else MPI_S if "mpi" in marks else OTHER_S
    items.sort(key=lambda item: -seconds[item.path])


REAL_SLIDES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "slides"


@pytest.fixture(scope="session")
def real_slides() -> Path:
    """Folder of the real slides."""
    if not REAL_SLIDES.is_dir():
        pytest.skip(f"the real slides are not here: {REAL_SLIDES} is missing")
    return REAL_SLIDES


@pytest.fixture(scope="session")
def real_tiles(real_slides: Path) -> Callable[[str], list[Path]]:
    """Files of the real tiles of one kind, ``Normal`` or ``OSCC``: 224 x 224, H&E."""
    return lambda kind: sorted((real_slides.parent / "tiles" / "oral_cancer" / kind).iterdir())


@pytest.fixture(scope="session")
def stored_images() -> list[np.ndarray]:
    """Images of three stored levels whose sizes are exact halves: 1024 x 768, 512 x 384, 256 x 192."""
    images = [textured(1024, 768)]
    for _ in range(2):
        images.append(halved(images[-1]))
    return images


@pytest.fixture
def slide(tmp_path: Path, stored_images: list[np.ndarray]) -> Path:
    """A JPEG slide of `stored_images` at 0.25 µm/px, for a test to damage."""
    return write_slide(tmp_path / "slide.tif", stored_images)


@pytest.fixture(scope="session")
def lossless_slide(tmp_path_factory: pytest.TempPathFactory, stored_images: list[np.ndarray]) -> Path:
    """A slide that gives back the very pixels of `stored_images`."""
    return write_slide(tmp_path_factory.mktemp("slides") / "lossless.tif", stored_images, compression="zlib")
