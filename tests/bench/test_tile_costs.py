"""What a core pays for a tile, seen on a small slide whose stored tiles are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from bench.scale.tile_costs import MeasuredCosts, families, measure_costs, read_tiles
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.run.networks import open_package
from pyramidai_mpi.run.opening import open_under, rule_of, tissue_of
from pyramidai_mpi.synth import SynthSpec, write_slide

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    slide = tmp_path_factory.mktemp("costs") / "slide.tif"
    write_slide(SynthSpec(2000, 2000, seed=3, mpp=0.25), slide)
    return slide


@pytest.fixture(scope="module")
def costs(path: Path) -> MeasuredCosts:
    return measure_costs(path, [("onnxruntime", default_model())], None, roots=1, written_roots=1)


@pytest.fixture
def slide(path: Path):
    package = open_package(default_model(), check_networks=False)
    opened = open_under(SlideInput(path), package)
    yield opened
    opened.pyramid.reader.close()


def test_families_are_neighbouring_roots_with_all_their_tissue_below(slide) -> None:
    rule = rule_of(slide, tissue_of(slide)[0])
    tiles = families(rule, 8, 3)
    roots = list(map(tuple, rule.roots()[["col", "row"]].tolist()))
    places = [roots.index(tuple(root)) for root in tiles[2][["col", "row"]].tolist()]
    assert places == list(range(places[0], places[0] + len(places)))
    reference = rule.reference_tiles()
    below = {
        (col, row)
        for col, row in reference[["col", "row"]].tolist()
        if (col // 4, row // 4) in {roots[p] for p in places}
    }
    assert set(map(tuple, tiles[0][["col", "row"]].tolist())) == below
    assert len(tiles[0]) == len(below)


def test_bytes_counted_are_those_of_the_stored_tiles_that_are_touched(path: Path, slide) -> None:
    tiles = families(rule_of(slide, tissue_of(slide)[0]), 1, 3)[0]
    _, a_tile, pixels = read_tiles(slide.pyramid, tiles)
    assert pixels.shape == (len(tiles), 224, 224, 3)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        across = -(-page.imagewidth // page.tilewidth)
        touched = {
            (y // page.tilelength) * across + x // page.tilewidth
            for col, row in tiles[["col", "row"]].tolist()
            for x in range(224 * col, min(224 * (col + 1), page.imagewidth))
            for y in (224 * row, min(224 * (row + 1), page.imagelength) - 1)
        }
        stored = sum(page.databytecounts[number] for number in touched)
    # the ends of stored tiles are looked at, too
    assert stored <= a_tile * len(tiles) < 1.05 * stored + 4096


def test_every_part_has_its_seconds(costs: MeasuredCosts) -> None:
    slide, engine = costs.slide, costs.engines[0]
    assert len(slide.read_s) == len(slide.read_bytes) == len(engine.infer_s) == 3
    parts = [slide.stain_s, slide.opening_s, slide.reopening_s, slide.tissue_s_per_gigapixel, slide.writing_s]
    assert min(*parts, *slide.read_s, *engine.infer_s, engine.loading_s) > 0
    # opening in a child of its own, too, costs more than opening alone
    assert slide.opening_s > slide.reopening_s
    assert not engine.stains
    assert not engine.random_weights


def test_the_models_bytes_are_those_of_its_files(costs: MeasuredCosts) -> None:
    assert costs.engines[0].model_bytes == sum(file.stat().st_size for file in default_model().glob("*.onnx"))


def test_seconds_of_a_tile_are_read_and_infer(costs: MeasuredCosts) -> None:
    expected = np.add(costs.slide.read_s, costs.engines[0].infer_s)
    assert costs.tile_s(costs.engines[0]) == pytest.approx(expected)
