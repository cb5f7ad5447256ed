"""Masks as pyramidal TIFFs: what other libraries read of them."""

from __future__ import annotations

import numpy as np
import openslide
import pytest
import tifffile

from pyramidai_mpi.base.errors import InputError, OutputExistsError, StorageError
from pyramidai_mpi.pyramid.mask_labels import UNKNOWN
from pyramidai_mpi.store.masks import writer
from pyramidai_mpi.store.masks.reader import open_mask_file, read_facts
from pyramidai_mpi.store.masks.writer import place_mask
from pyramidai_mpi.truth.coverage import UNIT
from pyramidai_mpi.truth.label_mask import open_mask

WIDTH, HEIGHT = 1300, 1111


@pytest.fixture(scope="module")
def labels():
    labels = (np.random.default_rng(0).random((HEIGHT // 10 + 1, WIDTH // 10)) < 0.4).astype(np.uint8)
    labels = labels.repeat(10, axis=0).repeat(10, axis=1)[:HEIGHT, :WIDTH]
    labels[300:333, 700:790] = UNKNOWN
    return labels


@pytest.fixture(scope="module")
def mask(labels, tmp_path_factory):
    path = tmp_path_factory.mktemp("masks") / "mask.tif"
    place_mask(path, (WIDTH, HEIGHT), lambda top, bottom: labels[top:bottom], um_px=2.0, facts={"answer": 42})
    return path


def test_tifffile_reads_labels_sizes_and_resolution(mask, labels):
    with tifffile.TiffFile(mask) as tiff:
        np.testing.assert_array_equal(tiff.pages[0].asarray(), labels)
        assert [page.shape for page in tiff.pages] == [(1111, 1300), (556, 650), (278, 325)]
        for shrink, page in zip((1, 2, 4), tiff.pages, strict=True):
            across, unit = page.tags["XResolution"].value, page.tags["ResolutionUnit"].value
            assert (across[0] / across[1], unit) == (5000 / shrink, 3)  # pixels a centimetre
            assert page.is_tiled
        halved = tiff.pages[1].asarray()
    # block by block, by the rule in words
    for row, col in ((0, 0), (150, 350), (555, 649), (100, 17)):
        block = labels[2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
        expected = UNKNOWN if (block == UNKNOWN).any() else int(2 * (block == 1).sum() >= block.size)
        assert halved[row, col] == expected


def test_openslide_opens_it_as_a_pyramid(mask, labels):
    with openslide.OpenSlide(mask) as slide:
        assert slide.level_dimensions == ((1300, 1111), (650, 556), (325, 278))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(2.0)
        region = np.asarray(slide.read_region((690, 290), 0, (200, 100)))[..., 0]
    np.testing.assert_array_equal(region, labels[290:390, 690:890])


def test_it_serves_as_a_tissue_mask(mask, labels):
    covered = open_mask(mask, (2 * WIDTH, 2 * HEIGHT)).coverage((1111, 1300), 2.0)
    np.testing.assert_array_equal(covered == UNIT, labels > 0)


def test_it_is_read_back_in_bands(mask, labels):
    with open_mask_file(mask) as file:
        assert file.sizes == ((1300, 1111), (650, 556), (325, 278))
        bands = list(file.bands(0))
    assert [top for top, _ in bands] == [0, 512, 1024]
    np.testing.assert_array_equal(np.concatenate([band for _, band in bands]), labels)
    assert read_facts(mask) == {"format": "pyramidai-mask/1", "answer": 42}


def test_equal_masks_are_equal_files(mask, labels, tmp_path):
    again = tmp_path / "again.tif"
    place_mask(again, (WIDTH, HEIGHT), lambda top, bottom: labels[top:bottom], um_px=2.0, facts={"answer": 42})
    assert again.read_bytes() == mask.read_bytes()


def test_nothing_is_replaced_or_left_behind(mask, labels, monkeypatch):
    def placed(**others):
        place_mask(mask, (WIDTH, HEIGHT), lambda top, bottom: labels[top:bottom], um_px=None, facts={}, **others)

    before = mask.read_bytes()
    with pytest.raises(OutputExistsError):
        placed()
    monkeypatch.setattr(writer, "_digests_of", lambda _path: ["something else"])
    with pytest.raises(StorageError, match="reads back as something else"):
        placed(overwrite=True)
    assert mask.read_bytes() == before
    assert [path.name for path in mask.parent.iterdir()] == ["mask.tif"]


def test_probabilities_are_means(tmp_path):
    values = np.random.default_rng(1).integers(0, 256, (600, 1100), np.uint8)
    path = tmp_path / "p.tif"
    place_mask(path, (1100, 600), lambda top, bottom: values[top:bottom], um_px=None, facts={}, is_probability=True)
    with tifffile.TiffFile(path) as tiff:
        np.testing.assert_array_equal(tiff.pages[0].asarray(), values)
        means = values.reshape(300, 2, 550, 2).astype(float).mean(axis=(1, 3))
        np.testing.assert_array_equal(tiff.pages[1].asarray(), np.floor(means + 0.5))
        assert tiff.pages[0].tags["ResolutionUnit"].value == 1


@pytest.mark.parametrize("content", [b"", b"no TIFF", b"II*\0\x08\0\0\0"], ids=["empty", "text", "cut"])
def test_what_is_none_is_refused(tmp_path, content):
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(InputError, match="not a mask of this program's"):
        read_facts(tmp_path / "x.tif")
