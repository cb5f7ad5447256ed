"""Encoders: networks that give features and no classes, as the model of a run or beside a classifier."""

import re

import h5py
import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi import open_result
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.engines.features import cosines
from pyramidai_mpi.patches.formats.foreign_features import FeatureFile
from pyramidai_mpi.run import encoding
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.synth import SynthSpec, write_slide
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.packages import ENCODED, encoded, write_encoder, write_package

SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide, an encoder, a classifier of two levels, and the result of the encoder on one rank."""
    path = tmp_path_factory.mktemp("encoders")
    write_slide(SynthSpec(1600, 1300, seed=11, tumor_share=0.2), path / "slide.tif")
    write_encoder(path / "encoder", batch=8)
    write_package(path / "classifier", n_levels=2)
    assert _run(path, path / "one.h5", "--model", "encoder").returncode == 0
    return path


def _run(folder, output, *words, ranks=None):
    return pyramidai("run", "slide.tif", "-o", output, *words, ranks=ranks, cwd=folder)


def _pixels(folder, level):
    """The tiles of a level of a result, read anew."""
    reader = open_slide(folder / "slide.tif")
    try:
        tiles = [reader.read((int(x), int(y)), 0, (SIDE, SIDE)) for x, y in level.tiles[["l0_x", "l0_y"]].tolist()]
    finally:
        reader.close()
    return np.stack(tiles)


def test_features_are_those_of_the_tiles(folder):
    result = open_result(folder / "one.h5")
    (level,) = result.levels
    assert len(level) > 100
    assert level.features.dtype == np.float32
    assert level.features.shape == (len(level), ENCODED)
    np.testing.assert_allclose(level.features, encoded(_pixels(folder, level)), rtol=1e-5)
    assert (level.tiles["decision"] == Decision.STOP).all()
    assert level.tiles["probability"].shape == (len(level), 0)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("words", [("--model", "encoder"), ("--model", "classifier", "--encoder", "encoder")])
def test_features_are_equal_for_any_number_of_ranks(folder, tmp_path, ranks, words):
    alone, together = tmp_path / "alone.h5", tmp_path / "together.h5"
    assert _run(folder, alone, *words, "--feature-type", "float16").returncode == 0
    assert _run(folder, together, *words, "--feature-type", "float16", "--seed", "7", ranks=ranks).returncode == 0
    assert digest_of(alone) == digest_of(together)
    ours, theirs = (open_result(path).levels[0].features for path in (alone, together))
    assert ours.tobytes() == theirs.tobytes()


def test_float16_is_float32_rounded_to_the_nearest(folder, tmp_path):
    assert _run(folder, tmp_path / "half.h5", "--model", "encoder", "--feature-type", "float16").returncode == 0
    whole, half = (open_result(path).levels[0].features for path in (folder / "one.h5", tmp_path / "half.h5"))
    assert half.dtype == np.float16
    assert half.tobytes() == whole.astype(np.float16).tobytes()  # numpy rounds as IEEE 754 says
    assert digest_of(folder / "one.h5") != digest_of(tmp_path / "half.h5")


def test_aggregators_learn_from_float16_too(folder, tmp_path):
    assert _run(folder, tmp_path / "half.h5", "--model", "encoder", "--feature-type", "float16").returncode == 0
    source, features = FeatureFile(tmp_path / "half.h5"), open_result(tmp_path / "half.h5").levels[0].features
    assert (source.n_tiles, source.n_features) == features.shape
    rows = source.rows(np.array([0, 5, 17]))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, features[[0, 5, 17]].astype(np.float32))


def test_what_float16_cannot_hold_is_an_unreadable_tile(folder, tmp_path):
    write_encoder(tmp_path / "large", gain=257.0)  # 255 * 257 = 65535, and the largest float16 is 65504
    words = ("--model", tmp_path / "large", "--feature-type", "float16")
    assert _run(folder, tmp_path / "large.h5", *words).returncode in {3, 65}
    with h5py.File(tmp_path / "large.h5") as file:
        level, failed = file["levels/0"], file["failed"][...]
        most = encoded(_pixels(folder, open_result(tmp_path / "large.h5").levels[0]), 257.0)[:, -1]
        np.testing.assert_array_equal(level["decision"][...] == Decision.UNREADABLE, most >= 65520)
        assert np.isnan(level["features"][...][most >= 65520]).all()
        assert set(failed["reason"].tolist()) == {b"a feature is too large for float16"}
    assert _run(folder, tmp_path / "whole.h5", "--model", tmp_path / "large").returncode == 0


def test_an_encoder_beside_a_classifier_leaves_its_decisions_alone(folder, tmp_path):
    assert _run(folder, tmp_path / "alone.h5", "--model", "classifier").returncode == 0
    assert _run(folder, tmp_path / "both.h5", "--model", "classifier", "--encoder", "encoder").returncode == 0
    alone, both = (open_result(tmp_path / name) for name in ("alone.h5", "both.h5"))
    for ours, theirs in zip(alone.levels, both.levels, strict=True):
        assert ours.tiles.tobytes() == theirs.tiles.tobytes()
    zoomed = int((both.levels[1].tiles["decision"] == Decision.ZOOM).sum())
    assert 0 < zoomed < len(both.levels[1])
    assert both.levels[1].features is None
    expected = encoded(_pixels(folder, both.levels[0]))
    np.testing.assert_allclose(both.levels[0].features, expected, rtol=1e-5)
    assert both.header.encoder.name == "colours"


def test_a_changed_feature_shows_in_the_digest(folder, tmp_path):
    write_encoder(tmp_path / "other", gain=1.0000002)
    assert _run(folder, tmp_path / "other.h5", "--model", tmp_path / "other").returncode == 0
    assert digest_of(tmp_path / "other.h5") != digest_of(folder / "one.h5")


def test_other_features_are_another_run(folder, tmp_path):
    output = tmp_path / "out.h5"
    assert _run(folder, output, "--model", "classifier").returncode == 0
    same = _run(folder, output, "--model", "classifier", "--resume")
    assert same.returncode == 0
    other = _run(folder, output, "--model", "classifier", "--encoder", "encoder", "--resume")
    assert other.returncode == 65
    assert "--encoder" in other.stderr
    assert _run(folder, output, "--model", "encoder", "--overwrite").returncode == 0
    half = _run(folder, output, "--model", "encoder", "--feature-type", "float16", "--resume")
    assert half.returncode == 65
    assert "--feature-type" in half.stderr


def test_an_encoder_that_is_given_more_tiles_at_a_time_is_another_one(folder, tmp_path):
    # how many decides the last bits of what real networks give
    for batch in (4, 8):
        write_encoder(tmp_path / f"of{batch}", batch=batch)
    words = ("--model", "classifier", "--resume", "--encoder")
    output = tmp_path / "out.h5"
    assert _run(folder, output, *words, tmp_path / "of4").returncode == 0
    assert _run(folder, output, *words, tmp_path / "of4").returncode == 0
    other = _run(folder, output, *words, tmp_path / "of8")
    assert other.returncode == 65
    assert "--encoder's model.yaml" in other.stderr


def test_parts_of_an_encoders_run_are_joined_to_its_result(folder, tmp_path):
    for number in (1, 2):
        words = ("--model", "encoder", "--part", f"{number}/2")
        assert pyramidai("run", "slide.tif", "-o", tmp_path / "out.h5", *words, cwd=folder).returncode == 0
    parts = sorted(tmp_path.glob("out*part*"))
    assert pyramidai("merge", *parts, "-o", tmp_path / "joined.h5").returncode == 0
    assert digest_of(tmp_path / "joined.h5") == digest_of(folder / "one.h5")


def test_clam_gets_the_features(folder, tmp_path):
    assert pyramidai("export", folder / "one.h5", "--clam", tmp_path / "clam").returncode == 0
    (file,) = (tmp_path / "clam").rglob("slide.h5")
    with h5py.File(file) as bag, h5py.File(folder / "one.h5") as result:
        np.testing.assert_array_equal(bag["features"][...], result["levels/0/features"][...])
        np.testing.assert_array_equal(bag["coords"][...], result["levels/0/coords"][...])


@pytest.mark.parametrize(
    "words",
    [
        ("export", "one.h5", "--geojson", "out.geojson"),
        ("export", "one.h5", "--geojson", "out.geojson", "--merge"),
        ("export", "one.h5", "--csv", "out.csv"),
        ("export", "one.h5", "--heatmap", "out.tif"),
        ("export", "one.h5", "--overlay", "out.png"),
        ("export", "one.h5", "--report", "out.html"),
        ("export", "one.h5", "--tiles", "out", "--slide", "slide.tif"),
        ("export", "one.h5", "--deepzoom", "out"),
        ("view", "one.h5", "--port", "0"),
        ("evaluate", "one.h5", "--truth", "."),
        ("tune", "one.h5", "--truth", ".", "--model", "classifier", "-o", "out"),
        ("classify", "fit", "one.h5", "--labels", "labels.csv", "-o", "out"),
        ("explain", "one.h5", "--model", "encoder", "--tiles", "top:3", "-o", "explained"),
        ("explain", "slide.tif", "--model", "encoder", "--tiles", "l0:100,100", "-o", "explained"),
    ],
)
def test_what_needs_scores_says_that_there_are_none(folder, words):
    done = pyramidai(*words, cwd=folder)
    assert done.returncode == 65, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "encoder" in done.stderr
    assert not list(folder.glob("out*"))


def test_places_of_patches_above_a_score_need_scores(folder, tmp_path):
    words = ("--size", "64", "--level", "0", "--places", "one.h5", "--above", "0.5", "-o", tmp_path)
    done = pyramidai("patches", "extract", "slide.tif", *words, cwd=folder)
    assert done.returncode in {4, 65}
    assert "encoder" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("info", "one.h5"),
        ("digest", "one.h5"),
        ("info", "encoder"),
        ("models", "list", "."),
        ("simulate", "one.h5", "--workers", "4"),
    ],
)
def test_what_needs_none_knows_of_encoders(folder, words):
    done = pyramidai(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert words[0] in {"digest", "simulate"} or "encoder" in done.stdout


def test_a_result_shows_itself_in_a_notebook(folder):
    result = open_result(folder / "one.h5")
    assert "encoder" in repr(result)
    assert "7 features" in repr(result.levels[0])
    assert "<img" not in result._repr_html_()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--model", "encoder", "--threshold", "0=0.5"), 64, "gives no scores"),
        (("--model", "encoder", "--positive-class", "tumor"), 64, "has no classes"),
        (("--model", "encoder", "--stride", "32"), 64, "--stride"),
        (("--model", "encoder", "--export", "clam,csv"), 64, "--export csv"),
        (("--model", "encoder", "--encoder", "encoder"), 64, "is an encoder already"),
        (("--model", "classifier", "--encoder", "classifier"), 65, "expected an encoder"),
        (("--model", "classifier", "--encoder", "encoder", "--features"), 64, "leave one out"),
        (("--model", "classifier", "--encoder", "encoder", "--stride", "32"), 64, "--encoder"),
        (("--model", "classifier", "--encoder", "coarse"), 65, "µm/px"),
        (("--model", "classifier", "--encoder", "small"), 65, "one tile size"),
        (("--model", "classifier", "--encoder", "nothing"), 65, "nothing"),
        (("--model", "classifier", "--feature-type", "float16"), 64, "--features"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, tmp_path, words, code, said):
    for name, changes in (("coarse", {"base_mpp": 0.5}), ("small", {"side": 32})):
        if not (folder / name).exists():
            write_encoder(folder / name, **changes)
    done = _run(folder, tmp_path / "none.h5", *words)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_pictures_have_features_too(tmp_path):
    pixels = np.random.default_rng(3).integers(60, 200, (128, 192, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    write_encoder(tmp_path / "encoder")
    words = ("--model", tmp_path / "encoder", "--mpp", "0.25", "--no-tissue")
    assert pyramidai("run", tmp_path / "picture.png", "-o", tmp_path / "out.h5", *words).returncode == 0
    level = open_result(tmp_path / "out.h5").levels[0]
    tiles = np.stack([pixels[y : y + SIDE, x : x + SIDE] for x, y in level.tiles[["l0_x", "l0_y"]].tolist()])
    np.testing.assert_allclose(level.features, encoded(tiles), rtol=1e-5)


def test_bfloat16_says_how_near_it_comes_and_other_features_are_refused(folder, tmp_path, monkeypatch, caplog, capfd):
    caplog.set_level("INFO")
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    words = ["run", folder / "slide.tif", "--model", folder / "encoder", "--backend", "openvino"]
    words = [*map(str, words), "--precision", "bfloat16"]
    assert run_command_line([*words, "-o", str(tmp_path / "near.h5")]) == 0
    assert re.search(r"in bfloat16: least cosine to float32 (0\.999|1\.)", caplog.text)
    whole, near = (open_result(path).levels[0].features for path in (folder / "one.h5", tmp_path / "near.h5"))
    assert cosines(whole, near).min() > 0.999
    monkeypatch.setattr(encoding, "LEAST_COSINE", 1.01)
    assert run_command_line([*words, "-o", str(tmp_path / "far.h5")]) == 65
    assert "run without --precision" in capfd.readouterr().err
    assert not (tmp_path / "far.h5").exists()
