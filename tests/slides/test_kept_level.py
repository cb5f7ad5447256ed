"""A file of patches read in its slide's place: the slide's pixels where they are kept, and nothing elsewhere."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import openslide
import pytest

import pyramidai_mpi
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.run.opening import open_under, rule_of, segment_slide
from pyramidai_mpi.run.pool.messages import SlideDescription
from pyramidai_mpi.run.selection import plan_outputs, select_slides
from pyramidai_mpi.slides.identity import quickhash, slide_quickhash
from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.slides.readers.base import LEFT_OUT, MISSING, THERE, UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.testing.contracts import check_reader, check_reader_on_damage
from tests.packages import write_package
from tests.patch_files import order_of, read_by_openslide, write_patches_of, write_pictures_of
from tests.tiffs import STORED_TILE, stored_tile, textured, write_slide

SIZE = (1024, 768)


@pytest.fixture(scope="module")
def slide(tmp_path_factory, stored_images):
    """A JPEG slide with three stored levels, which no test changes."""
    return write_slide(tmp_path_factory.mktemp("slide") / "patient_003_node_1.tif", stored_images)


@pytest.fixture(scope="module")
def whole(slide):
    """All of its level 0."""
    return write_patches_of(slide, slide.with_name("patient_003_node_1.patches.h5"), order_of(64, 64))


@pytest.fixture(scope="module")
def part(slide, tmp_path_factory):
    """Patches of its right half but for a hole."""
    mask = np.ones((12, 16), bool)
    mask[:, :8] = False
    mask[4:8, 11:14] = False
    return write_patches_of(slide, tmp_path_factory.mktemp("part") / "part.patches.h5", order_of(64, 64), mask)


@pytest.mark.parametrize("level", [0, 1])
def test_it_keeps_the_contract(slide, tmp_path, level):
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(64, 64, level=level))
    check_reader(lambda: open_slide(path))


def test_it_keeps_the_contract_on_a_damaged_slide(tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    offset, count = stored_tile(slide, 3, 2)
    with slide.open("r+b") as file:  # its end stays, so nothing is known to be wrong before it is decoded
        file.seek(offset + count // 2)
        file.write(b"\xff\xd0" * (count // 8))
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(64, 64))
    damaged = (3 * STORED_TILE, 2 * STORED_TILE)
    check_reader_on_damage(lambda: open_slide(path), (damaged, 0, (64, 64)), ((0, 0), 0, (64, 64)))


def test_a_tile_damaged_after_it_was_kept_is_unreadable_and_the_others_are_not(whole, tmp_path):
    path = shutil.copyfile(whole, tmp_path / "a.patches.h5")
    with PatchFile(path) as file:
        place = int(file._tile_places[9]) + 30  # column 1, row 1
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    check_reader_on_damage(lambda: open_slide(path), ((STORED_TILE,) * 2, 0, (64, 64)), ((0, 0), 0, (64, 64)))


def test_what_is_not_kept_is_left_out_and_cannot_be_read(slide, part):
    with PatchFile(part) as file:
        numbers = set(file.tile_index["number"].tolist())
    is_kept = np.zeros(SIZE[::-1], bool)
    for number in numbers:
        row, col = divmod(number, 8)
        is_kept[row * STORED_TILE : (row + 1) * STORED_TILE, col * STORED_TILE : (col + 1) * STORED_TILE] = True
    assert 0 < len(numbers) < 30
    reader = open_slide(part)
    pixels, known = reader.read_what_is_there((0, 0), 0, SIZE)
    np.testing.assert_array_equal(known, np.where(is_kept, THERE, LEFT_OUT))
    with openslide.OpenSlide(slide) as original:
        for x in range(-32, SIZE[0] + 32, 96):
            for y in range(-32, SIZE[1] + 32, 96):
                within = is_kept[max(y, 0) : y + 96, max(x, 0) : x + 96]
                known = reader.read_what_is_there((x, y), 0, (96, 96))[1]
                seen = np.full((96, 96), THERE)
                seen[max(-y, 0) :, max(-x, 0) :][: within.shape[0], : within.shape[1]][~within] = LEFT_OUT
                np.testing.assert_array_equal(known, seen)
                if within.all():
                    np.testing.assert_array_equal(
                        reader.read((x, y), 0, (96, 96)), read_by_openslide(original, (x, y), 0, 96)
                    )
                else:
                    with pytest.raises(UnreadableRegionError, match=r"is not kept in part\.patches\.h5"):
                        reader.read((x, y), 0, (96, 96))
    assert not (pixels[is_kept] == 255).all(axis=-1).any()
    reader.close()


def test_between_pixels_of_a_coarser_level_nothing_can_be_read(slide, tmp_path):
    reader = open_slide(write_patches_of(slide, tmp_path / "a.patches.h5", order_of(64, 64, level=1)))
    with pytest.raises(UnreadableRegionError, match="between pixels"):
        reader.read((1, 0), 0, (8, 8))
    assert (reader.read_what_is_there((1, 0), 0, (8, 8))[1] == MISSING).all()
    reader.close()


def test_a_thumbnail_has_the_slides_pixels_where_all_of_them_are_kept(slide, part):
    ours, theirs = open_slide(part), open_slide(slide)
    rgb, readable, left_out = read_thumbnail(ours, 1.5)
    expected = read_thumbnail(theirs, 1.5)[0]
    assert readable.all()
    assert 0.4 < left_out.mean() < 0.7
    np.testing.assert_array_equal(rgb[~left_out], expected[~left_out])
    ours.close()
    theirs.close()


def stained_slide(path):
    """Tissue in the middle of glass, with stored tiles of 128 px, at 1 µm/px and one stored level."""
    image = np.full((1536, 2048, 3), 240, np.uint8) + np.random.default_rng(1).integers(-3, 4, (1536, 2048, 3), np.int8)
    image = image.astype(np.uint8)
    image[256:1280, 256:1792] = textured(1536, 1024) // 2 + np.array([90, 20, 70], np.uint8)
    return write_slide(path, [image], mpp=1.0, compression="zlib")


def test_no_tissue_is_found_where_nothing_is_kept_not_even_within_tissue(tmp_path):
    slide = stained_slide(tmp_path / "slide.tif")
    mask = np.zeros((12, 16), bool)
    mask[2:10, 2:14] = True
    mask[4:8, 5:9] = False
    path = write_patches_of(slide, tmp_path / "slide.patches.h5", order_of(128, 128), mask)
    package = load_package(write_package(tmp_path / "model", n_levels=1, side=128, base_mpp=1.0))
    masks = []
    for one in (slide, path):
        opened = open_under(SlideInput(one), package)
        masks.append(segment_slide(opened))
        parts = rule_of(opened, masks[-1]).tissue.pixels_per_tile
        opened.pyramid.reader.close()
    of_slide, of_patches = masks
    kept = np.repeat(np.repeat(mask, parts, axis=0), parts, axis=1)[: of_slide.shape[0], : of_slide.shape[1]]
    assert of_slide[kept].mean() > 0.9
    assert of_patches[kept].mean() > 0.9
    assert of_slide[4 * parts : 8 * parts, 5 * parts : 9 * parts].mean() > 0.9
    assert not of_patches[~kept].any()


def levels_of(result):
    with h5py.File(result) as file:
        return [
            {
                tuple(index): row.tobytes()
                for index, row in zip(group["index"][...].tolist(), group["probability"][...], strict=True)
            }
            for _, group in sorted(file["levels"].items())
        ]


def test_where_all_is_kept_slide_and_file_have_results_of_one_digest(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [textured(1024, 768)])
    path = write_patches_of(slide, tmp_path / "slide.patches.h5", order_of(128, 64))
    model = write_package(tmp_path / "model", thresholds=(0.5, 0.0, 0.0))
    one, other = (pyramidai_mpi.analyse(source, model, no_tissue=True, progress=False) for source in (slide, path))
    assert one.digest == other.digest
    assert one.summary.slide == other.summary.slide == "slide.tif"
    assert sum(len(level) for level in other.levels) > 200


def test_tiles_that_are_wholly_kept_have_the_slides_scores_and_all_others_none(slide, part, tmp_path):
    model = write_package(tmp_path / "model", thresholds=(0.5, 0.0, 0.0))
    pyramidai_mpi.analyse(slide, model, no_tissue=True, progress=False, output=tmp_path / "slide.h5")
    pyramidai_mpi.analyse(part, model, no_tissue=True, progress=False, output=tmp_path / "part.h5")
    of_slide, of_part = levels_of(tmp_path / "slide.h5")[0], levels_of(tmp_path / "part.h5")[0]
    with PatchFile(part) as file:
        kept = {divmod(number, 8)[::-1] for number in file.tile_index["number"].tolist()}
    assert of_part.keys() == of_slide.keys()
    for (col, row), probability in of_part.items():  # tiles of 64 px lie within stored ones of 128
        if (col // 2, row // 2) in kept:
            assert probability == of_slide[col, row]
        else:
            assert np.isnan(np.frombuffer(probability, np.float32)).all()


def test_neither_run_takes_the_others_result_for_its_own(slide, whole, tmp_path):
    model = write_package(tmp_path / "model")
    out = tmp_path / "out.h5"
    pyramidai_mpi.analyse(whole, model, no_tissue=True, progress=False, output=out)
    assert pyramidai_mpi.analyse(whole, model, no_tissue=True, progress=False, output=out, resume=True).digest
    with pytest.raises(pyramidai_mpi.errors.InputError, match="file of patches in the slide's place"):
        pyramidai_mpi.analyse(slide, model, no_tissue=True, progress=False, output=out, resume=True)


def test_it_goes_by_its_slides_name_and_hash(slide, whole):
    assert slide_quickhash(whole) == quickhash(slide) == slide_quickhash(slide)
    reader = open_slide(whole)
    assert (reader.info.name, reader.info.path) == (slide.name, whole)
    description = SlideDescription(reader.info, "0" * 64, 0.25, "host", np.ones((2, 2), bool))
    assert SlideDescription.from_bytes(description.to_bytes()).info == reader.info
    reader.close()


def test_its_result_is_named_like_the_slides(whole):
    (entry,) = select_slides([whole], None).entries
    assert [path.name for path in plan_outputs([entry.slide], None, None)] == ["patient_003_node_1.h5"]


def test_a_folders_files_of_patches_are_slides_where_no_slide_lies_beside_them(slide, whole, tmp_path):
    shutil.copyfile(whole, tmp_path / "a.patches.h5")
    (tmp_path / "a.h5").touch()
    assert [entry.slide.name for entry in select_slides([tmp_path], None).entries] == ["a.patches.h5"]
    shutil.copyfile(slide, tmp_path / "a.tif")
    assert [entry.slide.name for entry in select_slides([tmp_path], None).entries] == ["a.tif"]


def test_truth_and_regions_are_found_by_the_slides_name(whole, tmp_path):
    from pyramidai_mpi.run.regions import _named_like
    from pyramidai_mpi.truth.truth import read_truth

    outline = tmp_path / "patient_003_node_1.geojson"
    outline.write_text('{"type": "FeatureCollection", "features": []}')
    assert _named_like(whole, tmp_path, (".geojson",)) == outline
    for name in ("patient_003_node_1.tif", whole.name):
        assert read_truth(tmp_path, name, SIZE).source == outline


def test_a_model_finer_than_what_is_kept_is_refused_in_its_µm(slide, tmp_path):
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(64, 64, level=1))
    package = load_package(write_package(tmp_path / "model", n_levels=1))
    with pytest.raises(InputError, match=r"its finest pixels are 0\.5 µm, coarser than the 0\.25 µm"):
        open_under(SlideInput(path), package)
    opened = open_under(SlideInput(path, allow_upsampling=True), package)
    assert opened.pyramid.plans[0].ratio == 0.5
    opened.pyramid.reader.close()
    coarse = load_package(write_package(tmp_path / "coarse", n_levels=2, base_mpp=0.5))
    ours, theirs = (open_under(SlideInput(one), coarse).pyramid for one in (path, slide))
    np.testing.assert_array_equal(ours.read_tile(0, 2, 1), theirs.read_tile(0, 2, 1))
    assert (ours.plans[1].ratio, theirs.plans[1].ratio) == (2, 1)  # resampled, where the slide has a stored level
    ours.reader.close()
    theirs.reader.close()


def test_a_file_without_stored_tiles_is_refused_in_a_line(slide, tmp_path):
    none = write_patches_of(slide, tmp_path / "none.patches.h5", order_of(pixels="none"))
    raw = write_pictures_of([bytes(3 * 16 * 16)], tmp_path / "raw.patches.h5", 16, "raw")
    for path, what in ((none, "coordinates alone"), (raw, "a picture of each patch")):
        with pytest.raises(
            InputError, match=rf"{path.name}: keeps {what}, and none of the slide's own tiles"
        ) as caught:
            open_slide(path)
        assert "\n" not in str(caught.value)


def test_stored_tiles_cannot_be_taken_out_of_a_file_of_patches_and_a_line_says_so(whole, tmp_path):
    with pytest.raises(InputError, match="only the reader of patches can read them"):
        write_patches_of(whole, tmp_path / "a.patches.h5", order_of(64, 64))
    again = write_patches_of(whole, tmp_path / "a.patches.h5", order_of(64, 64, pixels="none"))
    with PatchFile(again) as file, PatchFile(whole) as first:
        assert file.header.slide == first.header.slide
        assert file.patches.tobytes() == first.patches.tobytes()


def test_an_output_is_never_written_over_the_file_itself(whole, tmp_path):
    path = shutil.copyfile(whole, tmp_path / "a.patches.h5")
    before = path.read_bytes()
    with pytest.raises(pyramidai_mpi.errors.UsageError):
        pyramidai_mpi.analyse(path, write_package(tmp_path / "model"), output=path, overwrite=True, progress=False)
    assert path.read_bytes() == before
