"""Tiles in, predictions out: each tile's own, in order, and nothing made up where pixels or probabilities lack."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pyramidai_mpi.analyses.base import FAILED_DTYPE, failed_records
from pyramidai_mpi.analyses.classify import Classify, SlideClassifier
from pyramidai_mpi.base.types import Decision, Mode, tiles_at
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.stain.engine import StainEngine
from pyramidai_mpi.models.stain.graph import stain_graph
from pyramidai_mpi.models.stain.map import MacenkoTarget, StainError
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap, mask_pixels_per_tile
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from tests.packages import colour_probability, write_package
from tests.stains import plain_macenko, stained
from tests.tiffs import drop_tile, zero_tile


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package of the colour network, 64 px tiles."""
    return load_package(write_package(tmp_path_factory.mktemp("models") / "sound"))


@pytest.fixture(scope="module")
def engines(package):
    """One engine a level."""
    return [OnnxEngine(level, package) for level in package.levels]


def pyramid_of(slide) -> SlidePyramid:
    return SlidePyramid.build(OpenSlideReader(slide), 0.25, tile_size=64, base_mpp=0.25, scale_factor=2, n_levels=3)


def all_tissue(grid) -> TileRule:
    """A rule by which every tile exists."""
    pixels = mask_pixels_per_tile(grid)
    cols, rows = grid.shape(0)
    return TileRule(TissueMap(grid, np.ones((rows * pixels, cols * pixels), bool), pixels), 0.0)


def classifier_of(slide, engines, thresholds=(0.5, 0.4, 0.3), normalise=None, mode=Mode.PYRAMID) -> SlideClassifier:
    pyramid = pyramid_of(slide)
    classify = Classify(engines, thresholds, n_classes=2, positive_class=1, mode=mode)
    return SlideClassifier(classify, pyramid, all_tissue(pyramid.grid), normalise)


class FixedEngine:
    """Gives the rows that the test wants, for tiles in the order of their mean colour."""

    batch_shape, n_features, sees_position = 1, 0, False

    def __init__(self, rows) -> None:
        self.rows = np.array(rows, np.float32)
        self.called_with: list[int] = []

    def predict(self, pixels, *, features=False, positions=None):
        self.called_with.append(len(pixels))
        return self.rows[: len(pixels)], None


@pytest.mark.parametrize("level", [0, 1, 2])
def test_predictions_are_those_of_a_few_lines_of_numpy(lossless_slide, stored_images, engines, level):
    image = stored_images[level]
    rows, cols = image.shape[0] // 64, image.shape[1] // 64
    index = np.array([[c, r] for r in range(rows) for c in range(cols)])
    np.random.default_rng(level).shuffle(index)
    look = classifier_of(lossless_slide, engines).look(tiles_at(level, index))
    predictions, failed = look.records, look.failed
    pixels = np.stack([image[r * 64 : r * 64 + 64, c * 64 : c * 64 + 64] for c, r in index])
    expected = colour_probability(pixels, gain=1 + level / 4)
    assert np.abs(predictions["probability"] - expected).max() < 1e-5
    assert (predictions["level"] == level).all()
    assert (predictions["col"] == index[:, 0]).all()
    assert (predictions["row"] == index[:, 1]).all()
    clear = np.abs(expected[:, 1] - (0.5, 0.4, 0.3)[level]) > 1e-4
    assert (predictions["decision"] == (expected[:, 1] >= (0.5, 0.4, 0.3)[level]))[clear].all()
    assert len(failed) == 0
    assert failed.dtype == FAILED_DTYPE


def test_a_tile_gives_the_same_bits_alone_and_among_others(lossless_slide, engines):
    classifier = classifier_of(lossless_slide, engines)
    tiles = tiles_at(0, np.array([[c, r] for r in range(3) for c in range(5)]))
    together = classifier.look(tiles).records
    for n in range(len(tiles)):
        assert classifier.look(tiles[n : n + 1]).records.tobytes() == together[n : n + 1].tobytes()
    assert classifier.look(tiles[::-1]).records.tobytes() == together[::-1].tobytes()


@pytest.mark.parametrize("way", [zero_tile, drop_tile])
def test_an_unreadable_tile_is_listed_and_leaves_its_neighbours_as_they_were(slide, engines, way):
    tiles = tiles_at(0, np.array([[c, r] for r in range(3, 6) for c in range(5, 9)]))
    before = classifier_of(slide, engines).look(tiles).records
    way(slide, 3, 2)  # the stored tile holds columns 6, 7 and rows 4, 5
    look = classifier_of(slide, engines).look(tiles)
    predictions, failed = look.records, look.failed
    bad = np.isin(tiles["col"], [6, 7]) & np.isin(tiles["row"], [4, 5])
    assert bad.sum() == 4
    assert (predictions["decision"][bad] == Decision.UNREADABLE).all()
    assert np.isnan(predictions["probability"][bad]).all()
    assert predictions[~bad].tobytes() == before[~bad].tobytes()
    assert [(int(f["col"]), int(f["row"])) for f in failed] == [(6, 4), (7, 4), (6, 5), (7, 5)]
    assert (failed["level"] == 0).all()
    assert all(len(reason) > 10 for reason in failed["reason"])


def test_a_batch_of_which_nothing_can_be_read_is_all_unreadable(slide, engines):
    zero_tile(slide, 3, 2)
    tiles = tiles_at(0, np.array([[6, 4], [7, 5]]))
    look = classifier_of(slide, engines).look(tiles)
    predictions, failed = look.records, look.failed
    assert (predictions["decision"] == Decision.UNREADABLE).all()
    assert len(failed) == 2


@pytest.mark.parametrize("bad", [[np.nan, np.nan], [np.inf, 0.2], [0.2, np.nan], [0.5, -np.inf]], ids=str)
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_probability_that_is_not_finite_makes_its_tile_unreadable(lossless_slide, bad, threshold):
    engine = FixedEngine([[0.9, 0.1], bad, [0.0, 1.0]])
    look = classifier_of(lossless_slide, [engine] * 3, (threshold,) * 3).look(
        tiles_at(1, np.array([[0, 0], [1, 0], [2, 0]]))
    )
    predictions, failed = look.records, look.failed
    assert predictions["decision"].tolist()[1:] == [Decision.UNREADABLE, Decision.ZOOM]
    assert np.isnan(predictions["probability"][1]).all()
    assert np.isfinite(predictions["probability"][[0, 2]]).all()
    assert [(int(f["level"]), int(f["col"]), int(f["row"])) for f in failed] == [(1, 1, 0)]
    assert b"not finite" in failed["reason"][0]


def test_probabilities_go_to_the_readable_tiles_in_order(slide):
    zero_tile(slide, 0, 0)
    engine = FixedEngine([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    tiles = tiles_at(0, np.array([[4, 4], [0, 0], [5, 5], [1, 1], [6, 6]]))
    look = classifier_of(slide, [engine] * 3).look(tiles)
    predictions, failed = look.records, look.failed
    assert engine.called_with == [3]
    expected = [0.1, np.nan, 0.2, np.nan, 0.3]
    assert np.allclose(predictions["probability"][:, 1], np.float32(expected), equal_nan=True)
    assert len(failed) == 2


def test_a_long_reason_is_cut_and_not_lost(lossless_slide, engines):
    class Broken:
        grid = pyramid_of(lossless_slide).grid

        def read_tile(self, level, col, row):
            raise UnreadableRegionError("ä" * 500)

    broken = SlideClassifier(Classify(engines, (0.5, 0.4, 0.3), 2, 1), Broken(), all_tissue(Broken.grid))
    failed = broken.look(tiles_at(0, np.array([[0, 0]]))).failed
    assert failed["reason"][0] == ("ä" * 100).encode()


def test_a_path_that_is_no_utf_8_may_stand_in_a_reason():
    tiles = tiles_at(0, np.array([[0, 0]]))
    failed = failed_records(tiles, {0: "caf\udce9.tif: no such slide"})
    assert failed["reason"][0] == rb"caf\udce9.tif: no such slide"


@pytest.mark.parametrize("mode", [Mode.PYRAMID, Mode.EXHAUSTIVE])
def test_what_is_looked_at_next_are_the_children_of_the_tiles_to_zoom_into(slide, mode):
    zero_tile(slide, 0, 0, page=1)  # of level 1, columns 0, 1 and rows 0, 1
    tiles = tiles_at(1, np.array([[2, 2], [0, 0], [3, 2]]))
    look = classifier_of(slide, [FixedEngine([[0.9, 0.1], [0.1, 0.9]])] * 3, mode=mode).look(tiles)
    assert look.records["decision"].tolist() == [Decision.STOP, Decision.UNREADABLE, Decision.ZOOM]
    followed = {Mode.PYRAMID: [(0, 0), (3, 2)], Mode.EXHAUSTIVE: [(2, 2), (0, 0), (3, 2)]}[mode]
    expected = {(0, 2 * c + i, 2 * r + j) for c, r in followed for i in range(2) for j in range(2)}
    assert {tuple(tile) for tile in look.closer.tolist()} == expected
    assert len(look.closer) == len(expected)


def test_time_is_booked_by_phase(lossless_slide, engines):
    seconds = classifier_of(lossless_slide, engines).look(tiles_at(0, np.array([[0, 0]]))).seconds
    assert seconds.read > 0
    assert seconds.compute > 0
    slow = classifier_of(lossless_slide, engines, normalise=lambda pixels: time.sleep(0.1) or pixels)
    assert slow.look(tiles_at(0, np.array([[0, 0]]))).seconds.stain >= 0.1


def test_networks_see_the_readable_tiles_of_normalised_stain_in_order(slide):
    class Watcher(FixedEngine):
        def predict(self, pixels, *, features=False, positions=None):
            self.seen = pixels.copy()
            return super().predict(pixels)

    zero_tile(slide, 0, 0)
    tiles = tiles_at(0, np.array([[4, 4], [0, 0], [5, 5]]))
    plain, normalising = Watcher([[0.9, 0.1]] * 3), Watcher([[0.9, 0.1]] * 3)
    classifier_of(slide, [plain] * 3).look(tiles)
    classifier_of(slide, [normalising] * 3, normalise=lambda pixels: pixels // 2 + 128).look(tiles)
    assert len(plain.seen) == 2
    assert (normalising.seen == plain.seen // 2 + 128).all()


def test_a_tile_whose_stain_cannot_be_estimated_is_unreadable_and_no_other(slide):
    class Watcher(FixedEngine):
        def predict(self, pixels, *, features=False, positions=None):
            self.seen = pixels.copy()
            return super().predict(pixels)

    zero_tile(slide, 0, 0)
    tiles = tiles_at(0, np.array([[4, 4], [0, 0], [6, 4], [5, 5]]))
    plain, normalising = Watcher([[0.9, 0.1]] * 3), Watcher([[0.9, 0.1], [0.2, 0.8]])
    classifier_of(slide, [plain] * 3).look(tiles)

    def normalise(pixels):
        if (pixels == plain.seen[1]).all():
            raise StainError("its stain cannot be estimated: for a test")
        return pixels // 2 + 128

    look = classifier_of(slide, [normalising] * 3, normalise=normalise).look(tiles)
    assert (normalising.seen == plain.seen[[0, 2]] // 2 + 128).all()
    assert look.records["decision"].tolist() == [Decision.STOP, Decision.UNREADABLE, Decision.UNREADABLE, Decision.ZOOM]
    assert np.isnan(look.records["probability"]).all(axis=1).tolist() == [False, True, True, False]
    assert look.failed[["col", "row"]].tolist() == [(0, 0), (6, 4)]
    assert look.failed["reason"][1] == b"its stain cannot be estimated: for a test"


def test_a_blank_tile_and_its_neighbours_by_each_tiles_own_stain(lossless_slide, engines):
    class Drawn:
        grid = pyramid_of(lossless_slide).grid
        pixels = np.stack([stained(seed=seed, n=64 * 64).reshape(64, 64, 3) for seed in range(3)])

        def read_tile(self, level, col, row):
            return self.pixels[col]

    drawn = Drawn()
    drawn.pixels[1] = 244
    drawn.pixels[2] = drawn.pixels[2] // 2 + 30
    normalise = StainEngine(stain_graph(mixes_channels=False)).tile_normaliser(MacenkoTarget())
    classifier = SlideClassifier(Classify(engines, (0.5, 0.4, 0.3), 2, 1), drawn, all_tissue(drawn.grid), normalise)
    looks = [classifier.look(tiles_at(0, np.array(index))) for index in ([[0, 0], [1, 0], [2, 0]], [[2, 0]], [[0, 0]])]
    probability = looks[0].records["probability"]
    seen = [plain_macenko(drawn.pixels[k], drawn.pixels[k].reshape(-1, 3), MacenkoTarget()) for k in (0, 2)]
    assert np.abs(probability[[0, 2]] - colour_probability(np.rint(seen))).max() < 0.02
    assert np.isnan(probability[1]).all()
    assert looks[0].failed["reason"].tolist() == [
        b"its stain cannot be estimated: 0 stained pixels in its tissue are too few, it takes 1000"
    ]
    # alone or with others, in any order
    np.testing.assert_array_equal(looks[1].records["probability"][0], probability[2])
    np.testing.assert_array_equal(looks[2].records["probability"][0], probability[0])
