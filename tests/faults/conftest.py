"""A small slide with some unreadable tiles, a model, and the results of undisturbed runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.store.results.reader import read_digest
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import tissue_slide, wipe_tile
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path


THRESHOLDS = (0.36, 6.5e-5, 9.9e-6)
"""Of a model with tiles of 32 px and `gain=0.05`: about half of the tiles of `tissue_slide` are zoomed into."""


@dataclass(frozen=True)
class Undisturbed:
    """What to run, and what comes of it when nothing happens: some hundred tiles, 64 of them unreadable."""

    slide: Path
    model: Path
    result: Path

    @property
    def digest(self) -> str:
        """Digest of the result."""
        return read_digest(self.result)

    def arguments(self, output: Path, *options: str) -> list[str]:
        """Arguments of the command."""
        return [str(self.slide), "--model", str(self.model), "-o", str(output), "--batch-size", "8", *options]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    wipe_tile(tissue_slide(folder / "slide.tif"), 5)
    write_package(folder / "model", side=32, gain=0.05, thresholds=THRESHOLDS, with_features=True)
    case = Undisturbed(folder / "slide.tif", folder / "model", folder / "result.h5")
    assert pyramidai(*case.arguments(case.result, "--features")).returncode == 3
    return case
