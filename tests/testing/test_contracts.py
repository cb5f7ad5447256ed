"""The project's own readers, engines and exports keep their contracts, and what breaks one is found."""

from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, OutputExistsError
from pyramidai_mpi.export.formats import FORMATS, Order, carry_out
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.slides.readers.choice import READERS, open_slide
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from pyramidai_mpi.testing.contracts import check_engine, check_export, check_reader, check_reader_on_damage
from tests.packages import write_package
from tests.results import result_of, write_file
from tests.tiffs import STORED_TILE, zero_tile

OF_TILES = sorted(READERS.keys() - {"image", "patches"})  # whose files and contracts stand in tests/slides
DAMAGED = ((0, 0), 0, (2 * STORED_TILE, STORED_TILE))
SOUND = ((2 * STORED_TILE, 0), 0, (STORED_TILE, STORED_TILE))


@pytest.mark.parametrize("reader", OF_TILES)
@pytest.mark.parametrize("kind", ["lossless_slide", "slide"])
def test_readers_keep_their_contract(reader, kind, request):
    path = request.getfixturevalue(kind)
    check_reader(lambda: open_slide(path, reader))


@pytest.mark.parametrize("reader", OF_TILES)
def test_readers_keep_their_contract_on_a_damaged_slide(reader, slide):
    zero_tile(slide, 1, 0)
    check_reader_on_damage(lambda: open_slide(slide, reader), DAMAGED, SOUND)


class BlackOutside(OpenSlideReader):
    """Pads with black."""

    def read(self, l0_corner, stored_level, size):
        pixels = super().read(l0_corner, stored_level, size)
        return np.where(pixels == 255, 0, pixels).astype(np.uint8)


class SharedBuffer(OpenSlideReader):
    """Returns one array for ever."""

    def read(self, l0_corner, stored_level, size):
        pixels = super().read(l0_corner, stored_level, size)
        self.kept = getattr(self, "kept", np.empty((200, 200, 3), np.uint8))
        self.kept[: size[1], : size[0]] = pixels
        return self.kept[: size[1], : size[0]]


class Forgiving(OpenSlideReader):
    """Makes white tiles of unreadable ones."""

    def read(self, l0_corner, stored_level, size):
        return self.read_what_is_there(l0_corner, stored_level, size)[0]


@pytest.mark.parametrize(("reader", "claim"), [(BlackOutside, "outside the slide"), (SharedBuffer, "to the caller")])
def test_a_reader_that_breaks_its_contract_is_found(reader, claim, lossless_slide):
    with pytest.raises(AssertionError, match=claim):
        check_reader(lambda: reader(lossless_slide))


def test_a_reader_that_hides_damage_is_found(slide):
    zero_tile(slide, 1, 0)
    with pytest.raises(AssertionError, match="is unreadable"):
        check_reader_on_damage(lambda: Forgiving(slide), DAMAGED, SOUND)


@pytest.fixture
def tiles():
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)


def backends():
    missing = importlib.util.find_spec("openvino") is None
    return ["onnxruntime", pytest.param("openvino", marks=pytest.mark.skipif(missing, reason="is not installed"))]


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("with_features", [False, True])
def test_engines_keep_their_contract(backend, with_features, tiles, tmp_path):
    package = load_package(write_package(tmp_path, with_features=with_features))
    check_engine(load_engine(package.levels[0], package, backend), tiles, n_classes=2)


class Fake:
    """An engine by the mean of each tile."""

    backend, precision, batch_shape, n_features, sees_position = "fake", "float32", 4, 0, False

    def predict(self, pixels, *, features=False, positions=None):
        tumor = pixels.astype(np.float64).mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - tumor, tumor], axis=1).astype(np.float32), None


class SeesItsNeighbours(Fake):
    def predict(self, pixels, *, features=False, positions=None):
        probabilities, _ = super().predict(pixels)
        return probabilities * np.linspace(0.9, 1, len(pixels), dtype=np.float32)[:, None], None


class Logits(Fake):
    def predict(self, pixels, *, features=False, positions=None):
        return super().predict(pixels)[0] * np.float32(7), None


class Doubles(Fake):
    def predict(self, pixels, *, features=False, positions=None):
        return super().predict(pixels)[0].astype(np.float64), None


def test_a_plain_engine_keeps_the_contract(tiles):
    check_engine(Fake(), tiles, n_classes=2)


@pytest.mark.parametrize(
    ("engine", "claim"),
    [(SeesItsNeighbours, "place in a batch"), (Logits, "lie in"), (Doubles, "float32")],
)
def test_an_engine_that_breaks_its_contract_is_found(engine, claim, tiles):
    with pytest.raises(AssertionError, match=claim):
        check_engine(engine(), tiles, n_classes=2)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return write_file(tmp_path_factory.mktemp("result") / "out.h5", result_of())


@pytest.fixture
def damaged(result, tmp_path):
    """The result file, cut short."""
    path = tmp_path / "cut.h5"
    path.write_bytes(result.read_bytes()[:-2000])
    return path


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "exports"
    made.mkdir()
    return made


# what needs the slide: tests/export/test_tiles.py
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if not kind.needs_slide], ids=str)
def test_exports_keep_their_contract(kind, result, damaged, folder):
    def export(source, target, overwrite):
        carry_out(Order(kind, target), source, overwrite=overwrite)

    check_export(export, result, damaged, folder)


def careless(source, target, overwrite):
    """Writes over what is there."""
    if source.stat().st_size < 10_000:
        raise InputError("cut short")
    shutil.copy(source, target)


def untidy(source, target, overwrite):
    """Opens the target before it looks at the result."""
    if target.exists() and not overwrite:
        raise OutputExistsError("is there")
    target.touch()
    if source.name == "cut.h5":
        raise InputError("cut short")


def trusting(source, target, overwrite):
    """Makes something of anything."""
    target.touch()


@pytest.mark.parametrize(
    ("export", "claim"),
    [(careless, "existing target is refused"), (untidy, "leaves nothing behind"), (trusting, "damaged result fails")],
)
def test_an_export_that_breaks_its_contract_is_found(export, claim, result, tmp_path, folder):
    cut = tmp_path / "cut.h5"
    cut.write_bytes(result.read_bytes()[:5000])
    with pytest.raises(AssertionError, match=claim):
        check_export(export, result, cut, folder)
