"""Tissue tiles are those that a run looks at, and their pixels those that its network sees."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.write import PackageText, write_package
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.run.sampling import sample_tiles
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.training.slides.tissue_tiles import TissueTiles, find_tissue


def test_they_are_those_of_an_exhaustive_run(tmp_path) -> None:
    write_package(tmp_path / "m", PackageText("m", tile_size=64).document(1), [b"unused"])
    model = load_package(tmp_path / "m")
    paths = []
    for seed in range(6):
        write_slide(SynthSpec(512, 384, seed=seed), tmp_path / f"{seed}.tif", threads=1)
        paths.append(tmp_path / f"{seed}.tif")
    (seen,) = sample_tiles(paths, model, 1000, 0)
    expected = [one.pixels for one in seen]
    slides = [SlideInput(path) for path in paths]
    tiles, hashes = find_tissue(UnitPool(), slides, model)
    assert hashes == [quickhash(path) for path in paths]
    assert [len(rows) for rows in tiles] == [len(pixels) for pixels in expected]
    read = TissueTiles(slides, model, tiles)
    for slide in (0, 5, 1, 4, 2, 3, 0):  # more than are kept open
        pixels, readable = read(slide, np.arange(len(tiles[slide])))
        assert readable.all()
        assert (pixels == expected[slide]).all()
    few, _ = read(3, np.array([1, 4]))
    assert (few == expected[3][[1, 4]]).all()
    read.close()
