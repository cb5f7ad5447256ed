"""Units of work of an explanation: what they give, and which follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyramidai_mpi.analyses.base import OpenSlide
from pyramidai_mpi.analyses.explain import MAPS, MASKS, Explain, MaskRounds, UnitRule, unpack_map
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.base.types import tiles_at
from pyramidai_mpi.explain.choice import make_perturbation
from pyramidai_mpi.explain.faithfulness import curves, random_map
from pyramidai_mpi.explain.methods import Fill, method_named
from pyramidai_mpi.explain.perturbation import MASKS_PER_BLOCK, scores_of
from pyramidai_mpi.models.backward.engine import GradientEngine
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.choice import open_slide
from tests.explaining import SIDE, plain_gradcam, probabilities, tile_of, write_image, write_maps_package
from tests.tiffs import drop_tile

TILES = np.array([[1, 0], [5, 0], [2, 3]], np.int64)
QUICKHASH = "0f" * 32


def key_of(number, seed=0):
    return (seed, int(QUICKHASH, 16), 0, *TILES[number].tolist())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    write_image(folder / "slide.tif")
    write_maps_package(folder / "model")
    return folder


@pytest.fixture(scope="module")
def package(folder):
    return load_package(folder / "model")


@pytest.fixture(scope="module")
def engine(package):
    return OnnxEngine(package.levels[0], package)


def opened(path):
    pyramid = SlidePyramid.build(open_slide(path), 0.25, tile_size=SIDE, base_mpp=0.25, scale_factor=2, n_levels=1)
    return OpenSlide(SlideInput(path), pyramid, 0.25, QUICKHASH)


def explaining(method, package, engine, until=None, **asked):
    row = method_named(method)
    common = {"method": row, "level": 0, "column": 1, "n_classes": 2, "engine": engine}
    if row.needs_gradients:
        gradients = GradientEngine(package.levels[0], package)
        common |= {"gradients": gradients, "layer": gradients.layers[0].name}
        return Explain(**common, map_shape=gradients.layers[0].shape[1:], rounds=MaskRounds(0))
    perturbation = make_perturbation(row, SIDE, asked)
    rounds = MaskRounds(perturbation.n_masks, until)
    return Explain(**common, map_shape=perturbation.map_shape, rounds=rounds, perturbation=perturbation)


def rule_for(explain, rounds, scores=()):
    return UnitRule.of(TILES, explain.rounds.most_units, np.full(len(TILES), rounds), scores)


def kept_of(look):
    ends = np.cumsum(look.records["kept_bytes"].astype(int))[:-1]
    return [part.tobytes() for part in np.split(np.frombuffer(look.kept, np.uint8), ends)]


@pytest.mark.parametrize(("n_masks", "until"), [(1, None), (170, None), (4000, None), (4000, 0.9), (300, 0.5)])
def test_rounds_ask_for_every_mask_once(n_masks, until):
    rounds, asked, n = MaskRounds(n_masks, until), [], 0
    while True:
        asked += [number for block in rounds.blocks_in(n) for number in rounds.block(block)]
        assert asked == list(range(rounds.masks_in(n)))
        record = np.zeros(1, [("row", "<u4"), ("repeatability", "<f4")])
        record["row"] = n
        if not rounds.goes_on(record)[0]:
            break
        n += 1
    assert len(asked) == n_masks
    assert n < rounds.most_units


def test_a_map_that_repeats_asks_for_no_more_masks(package, engine):
    explain = explaining("rise", package, engine, until=0.9, n_masks=4000)
    records = np.zeros(4, explain.record)
    records["col"] = [0, 1, 2, 2]
    records["row"] = [0, 0, 0, 1]
    records["repeatability"] = [0.5, 0.9, np.nan, 0.1]
    closer = explain.closer(rule_for(explain, 1), records)
    by_tile = {int(col): sorted(closer["row"][closer["col"] == col].tolist()) for col in np.unique(closer["col"])}
    assert by_tile == {0: list(range(4, 8)), 2: list(range(8, 16))}
    assert set(closer["level"].tolist()) == {MASKS}
    first = explain.first(rule_for(explain, 1))
    assert len(first) == 3 * (4 + 1)


def test_blocks_done_in_any_order_are_the_masks_of_the_whole(folder, package, engine):
    explain = explaining("rise", package, engine, n_masks=150)
    units = explain.on(opened(folder / "slide.tif"), rule_for(explain, 0))
    first = explain.first(rule_for(explain, 0))
    assert len(first) == 3 * 3
    shuffled = first[np.random.default_rng(0).permutation(len(first))]
    found = {}
    for unit, part in zip(shuffled, kept_of(units.look(shuffled)), strict=True):
        found[int(unit["col"]), int(unit["row"])] = np.frombuffer(part, "<f4")
    units.close()
    for number, place in enumerate(TILES):
        expected = scores_of(
            explain.perturbation, tile_of(*place), lambda pixels: engine.predict(pixels)[0][:, 1], key_of(number)
        )
        got = np.concatenate([found[number, block] for block in range(3)])
        assert got.tobytes() == expected.tobytes()
        assert [len(found[number, block]) for block in range(3)] == [MASKS_PER_BLOCK, MASKS_PER_BLOCK, 22]


@pytest.mark.parametrize("method", ["occlusion", "lime"])
def test_maps_and_curves_are_those_of_the_tile_alone(folder, package, engine, method):
    asked = {"cells": 8} if method == "occlusion" else {"n_masks": 100, "segments": 12}
    explain = explaining(method, package, engine, **asked)

    def score_of(pixels):
        return engine.predict(pixels)[0][:, 1]

    pixels = [tile_of(*place) for place in TILES]
    scores = [scores_of(explain.perturbation, tile, score_of, key_of(n)) for n, tile in enumerate(pixels)]
    rule = rule_for(explain, 1, scores)
    units = explain.on(opened(folder / "slide.tif"), rule)
    look = units.look(tiles_at(MAPS, np.array([[n, 0] for n in range(3)])))
    units.close()
    assert not len(look.failed)
    assert not len(look.closer)
    for n, part in enumerate(kept_of(look)):
        found, lines = unpack_map(part, explain)
        expected = explain.perturbation.map_of(pixels[n], scores[n], key_of(n))
        np.testing.assert_array_equal(found, expected)
        own = curves(pixels[n], expected, score_of, 16, Fill.BLUR)
        other = curves(pixels[n], random_map(explain.map_shape, key_of(n)), score_of, 16, Fill.BLUR)
        for line, curve in zip(lines, (own.deletion, own.insertion, other.deletion, other.insertion), strict=True):
            np.testing.assert_array_equal(line, curve)
        assert np.isnan(look.records["repeatability"][n]) == (method == "occlusion")


def test_gradcam_is_the_weighted_maps_recomputed(folder, package, engine):
    explain = replace(explaining("gradcam", package, engine), faithfulness=False)
    units = explain.on(opened(folder / "slide.tif"), rule_for(explain, 1))
    first = explain.first(rule_for(explain, 1))
    assert first.tolist() == [(MAPS, n, 0) for n in range(3)]
    look = units.look(first)
    units.close()
    for n, part in enumerate(kept_of(look)):
        pixels = tile_of(*TILES[n])
        found, _ = unpack_map(part, explain)
        np.testing.assert_allclose(found, plain_gradcam(pixels, 1), atol=2e-6)
        np.testing.assert_allclose(look.records["probability"][n], probabilities(pixels), atol=2e-6)
    assert len(part) == explain.kept_of_map == 4 * 8 * 8


def test_a_tile_that_cannot_be_read_fails_alone(folder, package, engine, tmp_path):
    path = write_image(tmp_path / "slide.tif")
    drop_tile(path, 2, 0)  # stored tiles of 128 px: it holds the tile at col 5, row 0
    explain = explaining("occlusion", package, engine, cells=8)
    units = explain.on(opened(path), rule_for(explain, 0))
    masks = units.look(explain.first(rule_for(explain, 0)))
    scores = [np.frombuffer(part, "<f4") for part in kept_of(masks)]
    assert np.isnan(np.concatenate(scores)).mean() == pytest.approx(1 / 3)
    assert set(masks.failed["col"].tolist()) == {1}
    assert not explain.contradictions(masks.records).any()
    rule = rule_for(explain, 1, [np.concatenate(scores[n::3]) for n in range(3)])
    maps = explain.on(opened(path), rule).look(tiles_at(MAPS, np.array([[0, 0], [1, 0]])))
    units.close()
    assert maps.failed["col"].tolist() == [1]
    assert b"missing" in maps.failed["reason"][0] or b"not" in maps.failed["reason"][0]
    assert np.isnan(maps.records["probability"][1]).all()
    assert np.isnan(unpack_map(kept_of(maps)[1], explain)[0]).all()
    assert np.isfinite(unpack_map(kept_of(maps)[0], explain)[0]).all()
    assert not explain.contradictions(maps.records).any()


class SureOfWholeTilesAlone:
    """A network that gives no number for any other picture."""

    sees_position = False

    def __init__(self, engine):
        self.predict_tiles = engine.predict

    def predict(self, pixels, *, features=False, positions=None):
        probability, _ = self.predict_tiles(pixels)
        is_whole = [any((one == tile_of(*place)).all() for place in TILES) for one in pixels]
        return np.where(np.array(is_whole)[:, None], probability, np.float32(np.nan)), None


class NoGradients:
    """A network whose gradients are no numbers."""

    def __init__(self, engine):
        self._engine = engine

    def look(self, pixels, column, positions=None):
        looked = self._engine.look(pixels, column, positions)
        return looked._replace(gradients={name: one * np.float32(np.nan) for name, one in looked.gradients.items()})


def test_a_tile_whose_gradients_are_no_numbers_fails_with_that_reason(folder, package, engine):
    explain = explaining("gradcam", package, engine)
    explain = replace(explain, gradients=NoGradients(explain.gradients))
    units = explain.on(opened(folder / "slide.tif"), rule_for(explain, 1))
    look = units.look(explain.first(rule_for(explain, 1)))
    units.close()
    assert {one["reason"] for one in look.failed} == {b"the network's gradients or maps are not finite"}
    assert not look.kept


def test_a_tile_whose_changes_have_no_score_fails_without_a_map(folder, package, engine):
    explain = explaining("gradcam", package, SureOfWholeTilesAlone(engine))
    for faithfulness in (True, False):
        explain = replace(explain, faithfulness=faithfulness)
        units = explain.on(opened(folder / "slide.tif"), rule_for(explain, 1))
        look = units.look(explain.first(rule_for(explain, 1)))
        units.close()
        assert len(look.failed) == (3 if faithfulness else 0)
        assert np.isnan(look.records["probability"]).all() == faithfulness
        assert np.isnan(unpack_map(kept_of(look)[0], explain)[0]).all() == faithfulness
