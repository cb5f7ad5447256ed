"""Pictures of patches in a file are what was written, to the bit, or an error in one line."""

from __future__ import annotations

import io
import multiprocessing
import shutil
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from pyramidai_mpi.base.errors import InputError, InternalError
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.patches.pictures import decode_file
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import IMAGE_INDEX_DTYPE
from tests.patch_files import resealed, write_pictures_of
from tests.store.crafted import changes
from tests.tiffs import textured

SIZE, N = 48, 9


@pytest.fixture(scope="module")
def pictures():
    """uint8 (N, SIZE, SIZE, 3)."""
    return textured(SIZE, N * SIZE).reshape(N, SIZE, SIZE, 3)


def file_of(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind, **options)
    return written.getvalue()


def encoded(pictures: np.ndarray, coding: str) -> list[bytes]:
    if coding == "raw":
        return [one.tobytes() for one in pictures]
    if coding == "jpeg":
        return [simplejpeg.encode_jpeg(one, quality=90, colorsubsampling="444") for one in pictures]
    kinds = ("PNG", "TIFF", "JPEG")
    return [file_of(one, kinds[number % 3]) for number, one in enumerate(pictures)]


@pytest.fixture(scope="module", params=["raw", "jpeg", "files"])
def whole(request, tmp_path_factory, pictures):
    """A file of pictures of a coding, which no test changes."""
    path = tmp_path_factory.mktemp("pictures") / "out.patches.h5"
    coding = request.param
    return write_pictures_of(encoded(pictures, coding), path, SIZE, coding, 90 if coding == "jpeg" else 0)


def expected(pictures: np.ndarray, coding: str) -> np.ndarray:
    """What another library, or no library, makes of them."""
    if coding == "raw":
        return pictures
    return np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in encoded(pictures, coding)])


def test_patches_and_groups_are_the_pictures(whole, pictures):
    with open_patches(whole, group=4) as patches:
        wanted = expected(pictures, patches.header.images.coding)
        np.testing.assert_array_equal(np.stack(list(patches)), wanted)
        np.testing.assert_array_equal(np.concatenate([patches.group(n) for n in range(3)]), wanted)
        assert patches.check() == []
        patches[0][...] = 0  # the caller's own
        np.testing.assert_array_equal(patches[0], wanted[0])


def test_their_bytes_are_in_the_file_once_and_as_they_came(whole, pictures):
    with PatchFile(whole) as file:
        came = encoded(pictures, file.header.images.coding)
        assert [file.picture(number) for number in range(N)] == came
        data = whole.read_bytes()
        place = file.header.image_place
        assert data[place : place + file.header.image_bytes] == b"".join(came)


def _read(patches, answer) -> None:
    answer.send([patches[number].tobytes() for number in range(N)])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_threads_and_forked_processes_read_the_same(whole):
    with open_patches(whole) as patches:
        wanted = [patches[number].tobytes() for number in range(N)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda number: patches[number % N].tobytes(), range(8 * N))) == wanted * 8
        fork = multiprocessing.get_context("fork")
        here, there = fork.Pipe()
        child = fork.Process(target=_read, args=(patches, there))
        child.start()
        assert here.poll(60)
        assert here.recv() == wanted
        child.join()


def test_a_changed_bit_of_a_picture_is_met_where_it_is_read_and_not_before(whole, tmp_path):
    path = shutil.copyfile(whole, tmp_path / "out.patches.h5")
    with PatchFile(whole) as file:
        place = int(file._image_places[5]) + 10
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with open_patches(path) as patches:
        patches.patch(4)
        with pytest.raises(InputError, match=r"out\.patches\.h5: the picture of patch 5 was damaged after it was"):
            patches.patch(5)
        assert len(patches.check()) == 1


def test_whatever_is_put_into_a_file_it_says_what_it_said_or_is_refused_in_a_line(whole, tmp_path):
    path = tmp_path / "out.patches.h5"
    with open_patches(whole) as patches:
        digest, n_read, n_refused = patches.digest, 0, 0
    for what, change in changes(whole):
        if not what.startswith(("images", "settings pixels", "settings jpeg_quality", "settings size")):
            continue  # the rest: tests/store/test_patches.py
        shutil.copyfile(whole, path)
        try:
            resealed(path, change)
        except (TypeError, ValueError, OSError, OverflowError, RuntimeError):
            continue  # HDF5 takes no such thing
        try:
            with open_patches(path) as patches:
                patches._file.check_tables()
                for number in range(len(patches)):
                    patches.patch(number)
                assert patches.digest == digest, what
            n_read += 1
        except InputError as error:
            assert "\n" not in str(error), what
            assert len(str(error)) < 1000, what
            n_refused += 1
    assert n_refused > 150
    assert n_read < 12  # the same numbers as other types


def index_row(length: int) -> np.ndarray:
    return np.array((length, 0), IMAGE_INDEX_DTYPE)


@pytest.mark.parametrize("length", [0, 1, 3 * SIZE * SIZE - 1, 2**30, 2**32 - 1])
def test_lengths_that_cannot_be_are_refused(whole, tmp_path, length):
    path = shutil.copyfile(whole, tmp_path / "out.patches.h5")
    resealed(path, lambda file: file["images/index"].__setitem__(3, index_row(length)))
    with open_patches(path) as patches, pytest.raises(InputError, match="its table of pictures does not fit"):
        patches.patch(0)


def test_pictures_and_what_the_settings_say_of_them_agree(whole, tmp_path):
    def claim(**others):
        path = shutil.copyfile(whole, tmp_path / "out.patches.h5")
        resealed(path, lambda file: [file[place].attrs.__setitem__(name, value) for place, name, value in others["of"]])
        with pytest.raises(InputError, match="damaged result file"):
            open_patches(path)

    claim(of=[("settings", "pixels", "none")])
    claim(of=[("settings", "pixels", "stored")])
    claim(of=[("images", "quality", 101), ("settings", "jpeg_quality", 101)])
    claim(of=[("images", "quality", 12)])
    claim(of=[("images", "coding", "png"), ("settings", "pixels", "png")])


def test_a_file_without_patches_keeps_no_pictures_and_is_whole(tmp_path):
    with open_patches(write_pictures_of([], tmp_path / "a.patches.h5", SIZE, "raw")) as patches:
        assert (len(patches), patches.header.image_bytes, patches.check()) == (0, 0, [])


def test_another_number_of_bytes_than_was_said_is_written_nowhere(tmp_path):
    class Growing(list):
        def __getitem__(self, number):
            return super().__getitem__(number) + b"more"

    with pytest.raises(InternalError, match="bytes where"):
        write_pictures_of(Growing([b"abc"]), tmp_path / "a.patches.h5", SIZE, "files")


def test_files_of_pictures_are_turned_and_laid_on_white():
    pixels = textured(SIZE, SIZE)
    turned = Image.Exif()
    turned[274] = 6  # to be turned clockwise by a quarter
    for kind in ("PNG", "TIFF"):
        found = decode_file(file_of(pixels, kind, exif=turned), (SIZE, SIZE))
        np.testing.assert_array_equal(found, np.rot90(pixels, -1))
    jpeg = file_of(pixels, "JPEG", exif=turned, quality=95)
    upright = np.asarray(Image.open(io.BytesIO(jpeg)))
    np.testing.assert_array_equal(decode_file(jpeg, (SIZE, SIZE)), np.rot90(upright, -1))
    alpha = np.dstack([pixels, np.full((SIZE, SIZE), 255, np.uint8)])
    alpha[:5, :, 3] = 0
    found = decode_file(file_of(alpha, "PNG"), (SIZE, SIZE))
    assert (found[:5] == 255).all()
    np.testing.assert_array_equal(found[5:], pixels[5:])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no PNG, JPEG or TIFF"),
        (b"<svg/>", "is no PNG, JPEG or TIFF"),
        (file_of(textured(SIZE, SIZE), "GIF"), "is no PNG, JPEG or TIFF"),
        (file_of(textured(SIZE, SIZE + 1), "PNG"), "48 x 49 pixels, expected 48 x 48"),
        (file_of(textured(SIZE, SIZE)[..., 0], "PNG"), "its colours are L, not RGB"),
        (file_of(textured(SIZE, SIZE), "PNG")[:-500], "truncated|broken"),
        (file_of(textured(SIZE, SIZE), "JPEG")[:-300], "(?i)premature|truncated"),
        (file_of(textured(SIZE, SIZE), "TIFF")[:-3000], "truncated|not processed"),
    ],
    ids=["empty", "text", "gif", "size", "grey", "cut png", "cut jpeg", "cut tiff"],
)
def test_what_is_no_such_picture_is_refused(data, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        decode_file(data, (SIZE, SIZE))
    if data:
        with open_patches(write_pictures_of([data], tmp_path / "a.patches.h5", SIZE, "files")) as patches:
            with pytest.raises(InputError, match=r"a\.patches\.h5: the picture of patch 0 cannot be decoded: "):
                patches.patch(0)
            assert len(patches.check()) == 1


def test_a_bit_flipped_in_a_files_picture_never_makes_an_error_of_another_kind():
    rng = np.random.default_rng(0)
    for kind in ("PNG", "TIFF", "JPEG"):
        data = file_of(textured(SIZE, SIZE), kind)
        for _ in range(150):
            spoilt = bytearray(data)
            place = int(rng.integers(0, min(len(data), 600)))
            spoilt[place] ^= 1 << int(rng.integers(8))
            try:
                assert decode_file(bytes(spoilt), (SIZE, SIZE)).shape == (SIZE, SIZE, 3)
            except ValueError as error:
                assert "\n" not in str(error)


def test_they_lie_where_h5py_finds_them(whole, pictures):
    with h5py.File(whole) as file:
        index, data = file["images/index"][()], file["images/data"][()]
        assert file["images"].attrs["coding"] in {"raw", "jpeg", "files"}
    assert data.tobytes() == b"".join(encoded(pictures, file_coding(whole)))
    assert int(index["length"].sum()) == len(data)


def file_coding(path) -> str:
    with PatchFile(path) as file:
        assert file.header.images is not None
        return file.header.images.coding
