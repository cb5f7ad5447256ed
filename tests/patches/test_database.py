"""Patches read from their file are the pixels of the slide, to the bit, and never anything else."""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest

import pyramidai_mpi
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.patches.database import OpenPatches, open_patches
from pyramidai_mpi.patches.lookup import counted_groups, lookup_lines, patch_files
from pyramidai_mpi.run.cells import open_cells, rule_of_cells
from pyramidai_mpi.run.opening import tissue_of
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from pyramidai_mpi.slides.readers.tile_mosaic import CACHE_BYTES
from tests.patch_files import order_of, read_by_openslide, write_patches_of
from tests.tiffs import STORED_TILE, drop_tile, stored_tile, write_slide, zero_tail

REAL = "insidious-lymph-node-metastasis-HE.tif"


@pytest.fixture(scope="module", params=["jpeg", "zlib", None], ids=["jpeg", "deflate", "raw"])
def pair(request, tmp_path_factory, stored_images):
    """A slide of one coding, and all its patches of 96 px around cells of 64."""
    folder = tmp_path_factory.mktemp("patches")
    slide = write_slide(folder / "slide.tif", stored_images, compression=request.param)
    return slide, write_patches_of(slide, folder / "slide.patches.h5", order_of())


@pytest.fixture(scope="module")
def path(tmp_path_factory, stored_images):
    """A file of patches of a JPEG slide, which no test changes."""
    folder = tmp_path_factory.mktemp("patches")
    slide = write_slide(folder / "slide.tif", stored_images)
    return write_patches_of(slide, folder / "slide.patches.h5", order_of(group=50))


def test_every_patch_is_what_openslide_reads_also_over_the_edges(pair):
    slide_path, path = pair
    with open_patches(path) as patches, openslide.OpenSlide(slide_path) as slide:
        assert len(patches) == 16 * 12
        for (l0_x, l0_y), pixels in zip(patches.coords.tolist(), patches, strict=True):
            np.testing.assert_array_equal(pixels, read_by_openslide(slide, (l0_x, l0_y), 0, 96))


def test_outside_the_slide_it_is_white_and_says_so(path):
    with open_patches(path) as patches:
        first, inner = patches.table[0], patches.table[17]
        assert (first["l0_x"], first["l0_y"]) == (-16, -16)
        assert first["inside"] == pytest.approx((80 / 96) ** 2)
        assert (patches[0][:16] == 255).all()
        assert (patches[0][:, :16] == 255).all()
        assert not (patches[0][16:, 16:] == 255).all(axis=-1).any()
        assert inner["inside"] == 1


def test_a_stored_level_is_cut_as_it_is(tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", stored_images, compression="zlib")
    with open_patches(write_patches_of(slide, tmp_path / "a.patches.h5", order_of(100, 100, level=1))) as patches:
        settings = patches.header.settings
        assert (settings.downsample, settings.spacing) == (2, 0.5)
        for record, pixels in zip(patches.table, patches, strict=True):
            x, y = int(record["l0_x"]) // 2, int(record["l0_y"]) // 2
            there = stored_images[1][y : y + 100, x : x + 100]
            np.testing.assert_array_equal(pixels[: there.shape[0], : there.shape[1]], there)
            assert (pixels[there.shape[0] :] == 255).all()


@pytest.mark.parametrize("mpp", [0.3, 0.7, 0.237, 1.0], ids=["shrunk", "shrunk from level 1", "enlarged", "snapped"])
@pytest.mark.parametrize("compression", ["jpeg", "zlib"])
def test_at_any_spacing_the_pixels_are_those_that_a_run_reads_with_openslide(tmp_path, stored_images, mpp, compression):
    slide = write_slide(tmp_path / "slide.tif", stored_images, compression=compression)
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(48, 32, mpp=mpp))
    reference = SlidePyramid.build(
        OpenSlideReader(slide),
        0.25,
        tile_size=16,
        base_mpp=mpp,
        scale_factor=2,
        n_levels=1,
        allow_upsampling=True,
    )
    with open_patches(path) as patches:
        assert patches.header.settings.spacing == pytest.approx(mpp, rel=0.02)
        assert len(patches) > 10
        for record, pixels in zip(patches.table, patches, strict=True):
            # a window of 48 px around a cell of 32 is 3 x 3 of the run's tiles of 16
            col, row = 2 * int(record["col"]), 2 * int(record["row"])
            if min(col, row) == 0:
                continue  # a run has no tile there
            tiles = [[reference.read_tile(0, col + j, row + i) for j in range(-1, 3)] for i in range(-1, 3)]
            whole = np.vstack([np.hstack(line) for line in tiles])
            np.testing.assert_array_equal(pixels, whole[8:56, 8:56])


def test_groups_are_consecutive_patches_and_the_last_may_be_short(path):
    with open_patches(path) as patches:
        assert (len(patches), patches.group_size, patches.n_groups) == (192, 50, 4)
        whole = np.stack(list(patches))
        for number in range(4):
            np.testing.assert_array_equal(patches.group(number), whole[50 * number : 50 * number + 50])
        assert len(patches.group(3)) == 42
        room = np.zeros((50, 96, 96, 3), np.uint8)
        for number in (1, 3):
            filled = patches.group(number, out=room)
            assert filled.base is room
            np.testing.assert_array_equal(filled, whole[50 * number : 50 * number + 50])
        with pytest.raises(ValueError, match="expected uint8"):
            patches.group(0, out=room[:49])
        with pytest.raises(IndexError):
            patches.group(4)
    with open_patches(path, group=192) as patches:
        assert patches.n_groups == 1
        np.testing.assert_array_equal(patches.group(0), whole)
    with pytest.raises(UsageError, match="group 0"):
        open_patches(path, group=0)
    with pytest.raises(TypeError):
        open_patches(path, group=1.5)


def test_it_is_a_sequence(path):
    with open_patches(path) as patches:
        np.testing.assert_array_equal(patches[-1], patches[191])
        for number in (192, -193):
            with pytest.raises(IndexError):
                patches[number]


def test_numbers_are_whole_and_places_count_as_in_a_slice(path):
    with open_patches(path) as patches:
        for number in (1.0, slice(0, 2), None):
            with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
                patches.patch(number)
        for read in (lambda: None, lambda: patches.table):  # before the table is known, and after
            read()
            for first, last in ((-3, 192), (0, -190), (190, 10**9), (5, 3), (192, 200)):
                places = patches.places(first, last)
                np.testing.assert_array_equal(places["l0_x"], patches.coords[first:last, 0])


def test_a_closed_file_says_so(path):
    patches = open_patches(path)
    patches.close()
    with pytest.raises(UsageError, match="was closed; open it again"):
        patches.patch(0)


def test_the_package_has_it(path):
    with pyramidai_mpi.open_patches(str(path)) as patches:
        assert isinstance(patches, OpenPatches)


def digest_of(patches: OpenPatches, numbers: list[int]) -> str:
    return hashlib.sha256(b"".join(patches[number].tobytes() for number in numbers)).hexdigest()


def test_threads_read_the_same(path):
    rng = np.random.default_rng(0)
    orders = [rng.permutation(192)[:60].tolist() for _ in range(8)]
    with open_patches(path) as patches:
        expected = [digest_of(patches, order) for order in orders]
    with open_patches(path) as patches, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda order: digest_of(patches, order), orders)) == expected


def _read_in_child(patches: OpenPatches, answer: multiprocessing.connection.Connection) -> None:
    answer.send(digest_of(patches, list(range(30))))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_reads_on_though_a_thread_of_its_parent_holds_the_lock(path):
    with open_patches(path) as patches:
        expected = digest_of(patches, list(range(30)))
        fork = multiprocessing.get_context("fork")
        here, there = fork.Pipe()
        assert patches._pixels is not None
        with patches._pixels._decoded.lock:
            child = fork.Process(target=_read_in_child, args=(patches, there))
            child.start()
            answered = here.poll(60)
        if not answered:
            child.kill()
        assert answered
        assert here.recv() == expected
        child.join()
        assert digest_of(patches, list(range(30))) == expected


def test_it_can_be_sent_to_another_process(path):
    with open_patches(path, group=7) as patches, pickle.loads(pickle.dumps(patches)) as other:
        assert other.group_size == 7
        np.testing.assert_array_equal(other[5], patches[5])


def test_decoded_tiles_are_kept_within_bounds(path):
    with open_patches(path) as patches:
        assert patches._pixels is not None
        for number in range(192):
            patches.patch(number)
        assert 0 < patches._pixels._decoded.cache.n_bytes <= CACHE_BYTES
    assert CACHE_BYTES == 48 << 20


def test_without_pixels_there_are_the_same_places_and_no_picture(path, tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    with (
        open_patches(path) as stored,
        open_patches(write_patches_of(slide, tmp_path / "none.patches.h5", order_of(group=50, pixels="none"))) as none,
    ):
        assert none.table.tobytes() == stored.table.tobytes()  # shares not known are NaN
        assert none.digest != stored.digest
        with pytest.raises(InputError, match="coordinates alone"):
            none.patch(0)
        assert none.check() == []


def test_each_stored_tile_is_kept_once_and_untouched(pair):
    slide, path = pair
    data, found = slide.read_bytes(), 0
    with open_patches(path) as patches:
        header, index = patches.header, patches._file.tile_index
        for row in range(len(index)):
            col, tile_row = index["number"][row] % 8, index["number"][row] // 8
            offset, count = stored_tile(slide, int(col), int(tile_row))
            assert patches._file.encoded(row) == data[offset : offset + count]
            found += count
        assert (header.n_tiles, header.tile_bytes) == (8 * 6, found)
        assert path.stat().st_size < found + 40_000


def test_only_tiles_under_patches_are_kept(tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    mask = np.zeros((12, 16), bool)
    mask[3, 3] = True
    with open_patches(write_patches_of(slide, tmp_path / "a.patches.h5", order_of(), mask)) as patches:
        assert patches.table[["col", "row"]].tolist() == [(3, 3)]
        # the window is 176 to 272 in both directions, the tiles are of 128
        assert patches._file.tile_index["number"].tolist() == [1 * 8 + 1, 1 * 8 + 2, 2 * 8 + 1, 2 * 8 + 2]


@pytest.mark.parametrize("way", [drop_tile, lambda path, col, row: zero_tail(path, col, row, 40)], ids=["gone", "cut"])
def test_patches_over_a_damaged_stored_tile_are_listed_and_all_others_sound(tmp_path, stored_images, way):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    sound = write_patches_of(slide, tmp_path / "sound.patches.h5", order_of())
    way(slide, 3, 2)
    path = write_patches_of(slide, tmp_path / "damaged.patches.h5", order_of())
    with open_patches(sound) as before, open_patches(path) as after:
        over = {
            (int(record["col"]), int(record["row"]))
            for record in before.table
            if all(
                corner < (place + 1) * STORED_TILE and corner + 96 > place * STORED_TILE
                for corner, place in ((record["l0_x"], 3), (record["l0_y"], 2))
            )
        }
        assert {(int(cell["col"]), int(cell["row"])) for cell in after.failed} == over
        assert all(b"stored tile column 3, row 2" in cell["reason"] for cell in after.failed)
        assert len(after) + len(over) == len(before) == after.header.n_cells
        numbers = [n for n, cell in enumerate(before.table[["col", "row"]].tolist()) if cell not in over]
        for ours, number in zip(after, numbers, strict=True):
            np.testing.assert_array_equal(ours, before[number])


def test_damage_that_only_decoding_shows_is_an_error_and_no_picture(tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    offset, count = stored_tile(slide, 3, 2)
    with slide.open("r+b") as file:  # its end stays, so nothing is known to be wrong before it is decoded
        file.seek(offset + count // 2)
        file.write(b"\xff\xd0" * (count // 8))
    with open_patches(write_patches_of(slide, tmp_path / "a.patches.h5", order_of())) as patches:
        (wrong,) = patches.check()
        assert "stored tile column 3, row 2 is damaged in the slide itself" in wrong
        number = next(n for n, record in enumerate(patches.table) if (record["col"], record["row"]) == (7, 5))
        with pytest.raises(InputError, match=rf"a\.patches\.h5: patch {number} cannot be read: .*column 3, row 2"):
            patches.patch(number)


def test_a_slide_without_cells_has_a_valid_file_without_patches(tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(), np.zeros((2, 2), bool))
    with open_patches(path) as patches:
        assert (len(patches), patches.n_groups, patches.header.n_tiles) == (0, 0, 0)
        assert patches.coords.shape == (0, 2)
        assert patches.check() == []


def test_the_lookup_table_is_fdas():
    # 22 199 patches in groups of 400 are 56 groups
    groups = counted_groups_of({"normal_001": 22199, "nothing": 0, "tumor_001": 400, "tumor_002": 401})
    assert list(lookup_lines(groups)) == [
        "Start End Name",
        "1 56 normal_001",
        "57 57 tumor_001",
        "58 59 tumor_002",
    ]


def counted_groups_of(n_patches: dict[str, int]) -> list[tuple[str, int]]:
    from pyramidai_mpi.base.patch_order import n_groups, parse_bytes, patches_in

    assert patches_in(parse_bytes("--ram", "230MiB"), 448) == 400
    return [(name, n_groups(n, patches_in(parse_bytes("--ram", "230MiB"), 448))) for name, n in n_patches.items()]


def test_groups_of_files_are_counted_by_what_they_say_or_by_memory(path):
    assert list(counted_groups([path], None)) == [("slide", 4)]
    assert list(counted_groups([path], 60 * 3 * 96 * 96)) == [("slide", 4)]
    assert list(counted_groups([path], 100 * 3 * 96 * 96)) == [("slide", 2)]
    with pytest.raises(UsageError, match="hold no patch of 96 x 96"):
        list(counted_groups([path], 1000))


def test_a_name_with_blanks_has_no_row(tmp_path):
    with pytest.raises(InputError, match="holds blanks"):
        list(lookup_lines([("a b", 1)]))
    with pytest.raises(InputError, match="holds no file of patches"):
        patch_files(tmp_path)


@pytest.mark.real
def test_1600_patches_of_a_real_lymph_node_take_a_thirtieth_of_the_bytes_and_are_openslides(real_slides, tmp_path):
    slide_path = real_slides / REAL
    opened = open_cells(SlideInput(slide_path, 0.25), order_of(448, 224))
    mask, source = tissue_of(opened)
    tissue = rule_of_cells(opened, order_of(448, 224), mask, source).root_map()
    opened.pyramid.reader.close()
    first = tissue & (tissue.cumsum().reshape(tissue.shape) <= 1600)
    path = write_patches_of(slide_path, tmp_path / "node.patches.h5", order_of(448, 224), first, 0.25)
    ours, theirs = hashlib.sha256(), hashlib.sha256()
    with open_patches(path) as patches, openslide.OpenSlide(slide_path) as slide:
        assert len(patches) == 1600
        for number in range(0, 1600, 4):  # all of them: bench/speed/patches.py
            corner = tuple(patches.coords[number].tolist())
            ours.update(patches[number].tobytes())
            theirs.update(read_by_openslide(slide, corner, 0, 448).tobytes())
        assert ours.digest() == theirs.digest()
        assert path.stat().st_size <= len(patches) * 448 * 448 * 3 / 30
