"""What the networks see of a slide whose stain is normalised, against the methods in plain float64 numpy."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
import yaml
from skimage.io import imread

from pyramidai_mpi.analyses.classify import Classify
from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.models.stain.engine import StainEngine
from pyramidai_mpi.models.stain.graph import stain_graph
from pyramidai_mpi.models.stain.map import MacenkoTarget, StainError, estimate
from pyramidai_mpi.run.opening import open_under, rule_of, segment_slide
from pyramidai_mpi.run.stain import estimate_stain, own_stain_engine
from tests.stains import (
    EOSIN,
    HEMATOXYLIN,
    REINHARD,
    lab_of,
    normaliser_of,
    pixels_looked_at,
    plain_macenko,
    plain_reinhard,
    stained,
)

BOTH = pytest.mark.parametrize(
    ("target", "plain"), [(MacenkoTarget(), plain_macenko), (REINHARD, plain_reinhard)], ids=["macenko", "reinhard"]
)


@BOTH
def test_every_colour_is_within_a_grey_level_of_the_plain_method(target, plain):
    slide_pixels = stained()
    tile = np.random.default_rng(1).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    tile[:2, :128] = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(2, 128, 3)
    found = normaliser_of(estimate(slide_pixels, target))(tile)
    assert found.dtype == np.uint8
    assert np.abs(found - plain(tile, slide_pixels, target)).max() < 1


@pytest.mark.real
@BOTH
def test_real_tiles_are_within_a_grey_level_of_the_plain_method(real_tiles, target, plain):
    tiles = np.stack([imread(path) for kind in ("Normal", "OSCC") for path in real_tiles(kind)[:12]])
    slide_pixels = tiles[:, ::4, ::4].reshape(-1, 3)
    normalise = normaliser_of(estimate(slide_pixels, target))
    found = np.stack([normalise(tile) for tile in tiles])
    assert np.abs(found.astype(int) - tiles).mean() > 3  # a map that does something
    assert np.abs(found - plain(tiles, slide_pixels, target)).max() < 1


class Watcher:
    """A network that keeps what it sees."""

    sees_position = False

    def __init__(self):
        self.seen = []

    def predict(self, pixels, *, features=False, positions=None):
        self.seen.append(pixels.copy())
        return np.full((len(pixels), 2), 0.5, np.float32), None


@pytest.mark.real
@pytest.mark.parametrize("name", ["insidious-lymph-node-metastasis-HE.tif", "BS9-HE2.tif"])
@BOTH
def test_the_networks_of_a_real_slide_see_what_the_plain_method_gives(real_slides, tmp_path, name, target, plain):
    shutil.copytree(default_model(), tmp_path / "model")
    document = yaml.safe_load((tmp_path / "model/model.yaml").read_text())
    entry = {"method": "macenko"}
    if target is REINHARD:
        entry = {"method": "reinhard", "target": {"mean": list(target.mean), "std": list(target.std)}}
    (tmp_path / "model/model.yaml").write_text(yaml.safe_dump(document | {"stain": entry}))
    package = load_package(tmp_path / "model")
    slide = open_under(SlideInput(real_slides / name, mpp=0.25), package)
    try:
        rule = rule_of(slide, segment_slide(slide))
        slide, roots = estimate_stain(slide, rule, package), rule.roots()
        read = slide.pyramid.read_tile
        slide_pixels = pixels_looked_at(slide, rule)
        networks = [Watcher() for _ in range(3)]
        classify = Classify(networks, package.thresholds({}), 2, 1, stain_engine=own_stain_engine(package))
        classifier = classify.on(slide, rule)
        tiles = roots[:: max(1, len(roots) // 6)][:6]
        for level in (2, 1, 0):
            classifier.look(tiles)
            pixels = np.stack([read(level, int(tile["col"]), int(tile["row"])) for tile in tiles])
            assert np.abs(networks[level].seen[0] - plain(pixels, slide_pixels, target)).max() < 1
            if level:
                tiles = rule.children(tiles)[:6]
    finally:
        slide.pyramid.reader.close()


def test_two_slides_of_one_tissue_in_other_stains_become_alike():
    rng = np.random.default_rng(3)
    pink = stained(HEMATOXYLIN, EOSIN + 0.15, seed=4)
    blue = stained(np.array([0.75, 0.60, 0.35]), np.array([0.25, 0.85, 0.40]), seed=4, strength=0.8)
    assert np.abs(pink.astype(int) - blue).mean() > 10
    chosen = rng.integers(0, len(pink), 2500)
    one, other = (
        normaliser_of(estimate(pixels, MacenkoTarget()))(pixels[chosen].reshape(50, 50, 3)).astype(int)
        for pixels in (pink, blue)
    )
    assert np.abs(one - other).mean() < 5


def test_reinhard_reaches_the_targets_mean_and_spread():
    pixels = stained()
    mapped = normaliser_of(estimate(pixels, REINHARD))(pixels.reshape(100, 200, 3)).reshape(-1, 3)
    densities = -np.log((pixels.astype(float) + 1) / 240)
    lab = lab_of(mapped[(densities >= 0.15).all(axis=1)])
    assert np.abs(lab.mean(axis=0) - REINHARD.mean).max() < 0.01
    assert np.abs(lab.std(axis=0) - REINHARD.std).max() < 0.01


@pytest.mark.parametrize("target", [MacenkoTarget(), REINHARD], ids=["macenko", "reinhard"])
def test_a_pixel_becomes_the_same_wherever_it_lies(target):
    normalise = normaliser_of(estimate(stained(), target))
    tile = stained(seed=9, n=64 * 64).reshape(64, 64, 3)
    whole = normalise(tile)
    assert (normalise(np.ascontiguousarray(tile[::-1, ::-1])) == whole[::-1, ::-1]).all()
    assert (normalise(tile[3:4, 5:12]) == whole[3:4, 5:12]).all()


def test_one_engine_normalises_slides_in_turn_each_by_its_own_map():
    slides = [stained(), stained(HEMATOXYLIN, EOSIN + 0.15, seed=4, strength=0.8)]
    maps = [estimate(pixels, MacenkoTarget()) for pixels in slides]
    tile = stained(seed=9, n=64 * 64).reshape(64, 64, 3)
    engine = StainEngine(stain_graph(mixes_channels=False))
    first, second = (engine.normaliser(made) for made in maps)
    in_turn = [normalise(tile) for normalise in (first, second, first, second)]
    for k, found in enumerate(in_turn):
        assert np.abs(found - plain_macenko(tile, slides[k % 2], MacenkoTarget())).max() < 1
    assert (in_turn[0] != in_turn[1]).any()


def test_a_spread_beyond_reason_gives_black_or_white_and_no_chance_values():
    slide_pixels = stained()
    wild = estimate(slide_pixels, type(REINHARD)(REINHARD.mean, (60.0, 60.0, 60.0)))
    tile = slide_pixels[: 64 * 64].reshape(64, 64, 3)
    normalise = normaliser_of(wild)
    assert (normalise(tile) == normalise(tile)).all()
    assert set(np.unique(normalise(tile))) >= {0, 255}


@pytest.mark.parametrize("mixes_channels", [False, True])
def test_the_graph_is_sound_onnx(mixes_channels):
    model = onnx.load_from_string(stain_graph(mixes_channels=mixes_channels))
    onnx.checker.check_model(model, full_check=True)


def test_a_map_of_the_other_method_is_never_run_as_if_it_were_this_ones():
    with pytest.raises(InternalError, match="takes"):
        StainEngine(stain_graph(mixes_channels=False)).normaliser(estimate(stained(), REINHARD))


def tile_normaliser_of(target):
    return StainEngine(stain_graph(mixes_channels=target is REINHARD)).tile_normaliser(target)


def tile_of(height, width, seed=9):
    """Tissue to the left, unstained glass to the right."""
    tile = stained(seed=seed, n=height * width).reshape(height, width, 3)
    tile[:, width - width // 3 :] = (243, 240, 245)
    return tile


@BOTH
@pytest.mark.parametrize("size", [(64, 64), (224, 224), (448, 448), (130, 75)], ids=str)
def test_a_tile_is_normalised_by_its_own_stain_as_the_plain_method_does(target, plain, size):
    tile = tile_of(*size)
    found = tile_normaliser_of(target)(tile)
    assert found.dtype == np.uint8
    assert np.abs(found - plain(tile, tile.reshape(-1, 3), target)).max() < 1
    of_slide = normaliser_of(estimate(stained(HEMATOXYLIN, EOSIN + 0.15, seed=4), target))(tile)
    assert np.abs(found.astype(int) - of_slide).max() > 5


@pytest.mark.real
@BOTH
def test_real_tiles_are_each_normalised_by_their_own_stain(real_tiles, target, plain):
    normalise = tile_normaliser_of(target)
    for kind in ("Normal", "OSCC"):
        for path in real_tiles(kind)[:12]:
            tile = imread(path)
            assert np.abs(normalise(tile) - plain(tile, tile.reshape(-1, 3), target)).max() < 1


@pytest.mark.parametrize("target", [MacenkoTarget(), REINHARD], ids=["macenko", "reinhard"])
def test_what_a_tile_becomes_depends_on_no_tile_before_it(target):
    tiles = [tile_of(64, 64, seed) for seed in range(3)]
    first = [tile_normaliser_of(target)(tile) for tile in tiles]
    normalise = tile_normaliser_of(target)
    for k in (2, 0, 1, 1, 2):
        np.testing.assert_array_equal(normalise(tiles[k]), first[k])


@pytest.mark.parametrize("target", [MacenkoTarget(), REINHARD], ids=["macenko", "reinhard"])
@pytest.mark.parametrize(
    ("tile", "said"),
    [
        (np.full((224, 224, 3), 243, np.uint8), "0 stained pixels"),
        (np.where(np.arange(64 * 64).reshape(64, 64, 1) < 999, (130, 80, 150), 255), "999 stained pixels"),
    ],
    ids=["blank", "a speck"],
)
def test_a_tile_with_too_little_tissue_is_never_passed_through(target, tile, said):
    with pytest.raises(StainError, match=f"its stain cannot be estimated: {said}"):
        tile_normaliser_of(target)(tile.astype(np.uint8))


def test_a_tile_of_one_stain_is_never_passed_through():
    tile = stained(HEMATOXYLIN, HEMATOXYLIN, n=64 * 64).reshape(64, 64, 3)
    with pytest.raises(StainError, match="degrees apart"):
        tile_normaliser_of(MacenkoTarget())(tile)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_the_number_of_threads_of_linear_algebra_changes_no_bit(threads):
    # ranks have one, who calls `analyse` from Python may have many
    threadpoolctl = pytest.importorskip("threadpoolctl")
    tiles = [tile_of(224, 224), tile_of(448, 448), tile_of(227, 221)]
    with threadpoolctl.threadpool_limits(1):
        one = [estimate(tile.reshape(-1, 3), MacenkoTarget()) for tile in tiles]
    with threadpoolctl.threadpool_limits(threads):
        assert {library["num_threads"] for library in threadpoolctl.threadpool_info()} == {threads}
        assert [estimate(tile.reshape(-1, 3), MacenkoTarget()) for tile in tiles] == one
