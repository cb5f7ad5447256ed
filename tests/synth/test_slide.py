"""The written slide, looked at with OpenSlide and tifffile."""

import json
import subprocess
import sys

import numpy as np
import openslide
import pytest
import tifffile

from pyramidai_mpi.base.errors import OutputExistsError, StorageError, UsageError
from pyramidai_mpi.synth import SynthSpec, to_geojson, write_slide

SPEC = SynthSpec(1990, 1501, seed=3, mpp=0.25, tumor_share=0.3)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_slide(SPEC, tmp_path_factory.mktemp("synth") / "slide.tif", threads=2)


def test_openslide_opens_it_with_halving_levels_and_its_spacing(written):
    with openslide.OpenSlide(written.path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.level_dimensions == ((1990, 1501), (995, 750), (497, 375))
        assert slide.level_dimensions == written.level_sizes
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25, rel=1e-6)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize("mpp", [0.243, 0.5])
@pytest.mark.parametrize("tile_size", [256, 512])
def test_other_spacings_and_tiles_are_stored_as_asked(tmp_path, mpp, tile_size):
    path = write_slide(SynthSpec(700, 600, mpp=mpp, tile_size=tile_size), tmp_path / "slide.tif").path
    with openslide.OpenSlide(path) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(mpp, rel=1e-6)
        assert int(slide.properties["openslide.level[0].tile-width"]) == tile_size


def test_two_readers_see_the_same_pixels(written):
    with openslide.OpenSlide(written.path) as slide:
        region = np.asarray(slide.read_region((300, 200), 0, (900, 800)).convert("RGB"))
    # libjpeg versions may round colours differently by a little
    difference = np.abs(tifffile.imread(written.path, key=0)[200:1000, 300:1200].astype(int) - region)
    assert difference.mean() < 0.5


@pytest.mark.parametrize("level", [1, 2])
def test_a_lower_level_is_the_mean_of_full_resolution(tmp_path, level):
    spec = SynthSpec(1501, 1030, seed=3, tumor_share=0.3, quality=100)
    path = write_slide(spec, tmp_path / "slide.tif").path
    full = tifffile.imread(path, key=0).astype(float)
    low = tifffile.imread(path, key=level).astype(float)
    f = 2**level
    height, width = low.shape[:2]
    expected = full[: height * f, : width * f].reshape(height, f, width, f, 3).mean(axis=(1, 3))
    # both went through JPEG, which halves the resolution of colour: equal up to that, and without a shift
    assert np.abs(low - expected).mean() < 2.0
    assert np.abs(np.roll(low, 1, axis=0) - expected).mean() > 2 * np.abs(low - expected).mean()


def test_the_bytes_do_not_depend_on_the_threads(written, tmp_path):
    for threads in (1, 5):
        again = write_slide(SPEC, tmp_path / f"{threads}.tif", threads=threads)
        assert again.path.read_bytes() == written.path.read_bytes()
        assert again.truth_path.read_bytes() == written.truth_path.read_bytes()


def test_another_seed_is_another_slide(written, tmp_path):
    other = write_slide(SynthSpec(1990, 1501, seed=4, tumor_share=0.3), tmp_path / "slide.tif")
    assert other.path.read_bytes() != written.path.read_bytes()
    assert other.regions != written.regions


def test_the_truth_lies_beside_it(written):
    assert written.truth_path.name == "slide.geojson"
    assert written.truth_path.read_text() == to_geojson(written.regions)
    assert json.loads(written.truth_path.read_text())["features"]


def test_a_slide_without_tumour_has_a_truth_without_polygons(tmp_path):
    slide = write_slide(SynthSpec(1000, 1000, tumor_share=0.0), tmp_path / "normal.tif")
    assert json.loads(slide.truth_path.read_text()) == {"type": "FeatureCollection", "features": []}


def test_existing_files_are_not_touched_unless_asked(tmp_path):
    (tmp_path / "slide.geojson").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"slide\.geojson"):
        write_slide(SPEC, tmp_path / "slide.tif")
    assert (tmp_path / "slide.geojson").read_text() == "mine"
    write_slide(SynthSpec(300, 300), tmp_path / "slide.tif", overwrite=True)


def test_nothing_is_left_when_writing_fails(tmp_path):
    def stop(done, total):
        raise OSError("disk full")

    with pytest.raises(StorageError, match="disk full"):
        write_slide(SPEC, tmp_path / "slide.tif", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        write_slide(SPEC, tmp_path / "nowhere" / "slide.tif")


def test_a_name_that_would_overwrite_its_truth_is_refused(tmp_path):
    with pytest.raises(UsageError, match="geojson"):
        write_slide(SPEC, tmp_path / "slide.geojson")


def test_progress_counts_up_to_all_blocks(tmp_path):
    seen = []
    write_slide(SynthSpec(1100, 1100), tmp_path / "slide.tif", progress=lambda *counts: seen.append(counts))
    assert seen == [(3, 9), (6, 9), (9, 9)]


_MEASURE = """
import resource, sys
from pyramidai_mpi.synth import SynthSpec, write_slide
write_slide(SynthSpec(4096, int(sys.argv[1]), seed=1), sys.argv[2], threads=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_height(tmp_path):
    def peak_kib(height):
        command = [sys.executable, "-c", _MEASURE, str(height), str(tmp_path / f"{height}.tif")]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)

    # the taller slide has 88 MB more of pixels at level 0 alone
    assert peak_kib(9216) - peak_kib(2048) < 40_000
