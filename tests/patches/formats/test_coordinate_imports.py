"""Files of coordinates as CLAM and TRIDENT write them, and their slides, become files of patches."""

from __future__ import annotations

import h5py
import numpy as np
import openslide
import pytest

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.slides.identity import quickhash
from tests.patch_files import read_by_openslide
from tests.tiffs import write_slide, zero_tile

CORNERS = np.array([[0, 0], [96, 0], [512, 256], [960, 700], [-16, 40]])


def import_(*words: object) -> int:
    return run_command_line(["patches", "import", *map(str, words)])


def write_clam(path, corners=CORNERS, level=0, size=96, level_dim=(1024, 768), **others):
    """A file as CLAM's process_contour and save_hdf5 write it (wsi_core/WholeSlideImage.py, wsi_utils.py)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        coords = file.create_dataset(
            "coords", corners.shape, maxshape=(None, 2), chunks=(1, 2), dtype=np.int64, data=corners
        )
        coords.attrs.update(
            patch_size=size,
            patch_level=level,
            downsample=(2.0**level, 2.0**level),
            downsampled_level_dim=np.array(level_dim),
            level_dim=level_dim,
            name=path.stem,
            save_path="/somewhere/patches",
            **others,
        )
    return path


def write_trident(path, corners=CORNERS, size=96, source=40, target=40, overlap=0, **others):
    """A file as TRIDENT's coords_to_h5 writes it (trident/IO.py)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["coords"] = np.asarray(corners, np.int64)
        file["coords"].attrs.update(
            {
                "patch_size": size,
                "patch_size_level0": size * source // target,
                "level0_magnification": source,
                "target_magnification": target,
                "overlap": overlap,
                "name": path.stem.removesuffix("_patches"),
                "savetodir": "/somewhere",
                "level0_width": 1024,
                "level0_height": 768,
            }
            | others
        )
    return path


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory, stored_images):
    folder = tmp_path_factory.mktemp("slides")
    return write_slide(folder / "patient_024_node_4.tif", stored_images)


@pytest.mark.parametrize("pixels", ["stored", "raw"])
@pytest.mark.parametrize("level", [0, 1])
def test_patches_of_clams_coordinates_are_what_clam_reads(tmp_path, slide_path, pixels, level):
    corners = CORNERS // 4 * 4
    path = write_clam(tmp_path / "patient_024_node_4.h5", corners, level, level_dim=(1024 >> level, 768 >> level))
    assert import_("--clam", path, "--slides", slide_path, "--pixels", pixels, "-o", tmp_path) == 0
    with open_patches(tmp_path / "patient_024_node_4.patches.h5") as patches, openslide.OpenSlide(slide_path) as slide:
        np.testing.assert_array_equal(patches.coords, corners)
        for (x, y), found in zip(corners.tolist(), patches, strict=True):
            np.testing.assert_array_equal(found, read_by_openslide(slide, (x, y), level, 96))
        np.testing.assert_array_equal(patches.group(0), np.stack(list(patches)))
        header = patches.header
        assert (header.settings.places, header.settings.spacing) == ("listed", 0.25 * 2**level)
        assert header.slide.quickhash == quickhash(slide_path)
        assert patches.origin == {"patient": "24", "node": "4", "centre": "1"}
        assert (patches.table["label"] == -1).all()
        assert patches.table["inside"][0] == 1
        assert patches.table["inside"][3] == pytest.approx(
            max(0, min(1, 64 / (96 << level))) * min(1, 68 / (96 << level))
        )
        assert patches.check() == []


def test_folders_of_both_programs_are_taken_as_they_leave_them(tmp_path, slide_path, capsys):
    write_clam(tmp_path / "clam" / "patches" / "patient_024_node_4.h5")
    write_trident(tmp_path / "20x_96px" / "patches" / "patient_024_node_4_patches.h5", overlap=32)
    for kind, folder in (("clam", "clam"), ("trident", "20x_96px")):
        (tmp_path / f"of_{kind}").mkdir()
        words = (f"--{kind}", tmp_path / folder, "--slides", slide_path.parent, "-o", tmp_path / f"of_{kind}")
        assert import_(*words) == 0
        with open_patches(tmp_path / f"of_{kind}" / "patient_024_node_4.patches.h5") as patches:
            np.testing.assert_array_equal(patches.coords, CORNERS)
            assert patches.header.settings.stride == (96 if kind == "clam" else 64)
    assert "5 patches of TRIDENT's coordinates" in capsys.readouterr().out
    assert run_command_line(["patches", "info", str(tmp_path / "of_clam/patient_024_node_4.patches.h5")]) == 0
    assert "as they were listed or found elsewhere" in capsys.readouterr().out
    words = ("--clam", tmp_path / "clam", "--slides", slide_path.parent, "--slide-mpp", 0.5, "--pixels", "none")
    assert import_(*words, "-o", tmp_path) == 0
    assert "\n  says that its pixels are 0.25 µm; they are taken for 0.5 µm" in capsys.readouterr().out


def test_what_is_exported_comes_back(made, tmp_path):
    with open_patches(made.plain) as patches:
        for kind in ("clam", "trident"):
            out = tmp_path / f"of_{kind}"
            out.mkdir()
            assert run_command_line(["patches", "export", str(made.plain), f"--{kind}", str(tmp_path / kind)]) == 0
            assert import_(f"--{kind}", tmp_path / kind, "--slides", made.slide, "-o", out) == 0
            with open_patches(out / "patient_024_node_4.patches.h5") as back:
                np.testing.assert_array_equal(back.coords, patches.coords)
                np.testing.assert_array_equal(np.stack(list(back)), np.stack(list(patches)))


def test_patches_of_a_file_in_its_slides_place_are_the_slides(made, tmp_path):
    assert run_command_line(["patches", "export", str(made.plain), "--clam", str(tmp_path / "clam")]) == 0
    words = ("--clam", tmp_path / "clam", "--slides", made.plain, "--pixels", "none", "-o", tmp_path)
    assert import_(*words) == 0
    with open_patches(made.plain) as patches, open_patches(tmp_path / made.plain.name) as back:
        assert back.header.slide == patches.header.slide


@pytest.mark.parametrize(("size", "target", "level"), [(48, 20, 1), (64, 12.5, 1), (40, 5, 2)])
def test_tridents_magnifications_say_how_wide_pixels_are(tmp_path, slide_path, stored_images, size, target, level):
    path = write_trident(
        tmp_path / "a.h5", CORNERS[:3], size, target=target, patch_size_level0=round(size * 40 / target)
    )
    assert import_("--trident", path, "--slides", slide_path, "--pixels", "raw", "-o", tmp_path) == 0
    with open_patches(tmp_path / "patient_024_node_4.patches.h5") as patches, openslide.OpenSlide(slide_path) as slide:
        settings = patches.header.settings
        assert settings.downsample == pytest.approx(40 / target)
        assert settings.spacing == pytest.approx(0.25 * 40 / target)
        assert settings.stored_level == level
        side = round(size * 40 / target / 2**level)
        for (x, y), found in zip(CORNERS[:3].tolist(), patches, strict=True):
            whole = read_by_openslide(slide, (x, y), level, side)
            if side == size:
                np.testing.assert_array_equal(found, whole)
            elif side % size == 0:
                n = side // size
                mean = whole.reshape(size, n, size, n, 3).mean(axis=(1, 3))
                assert np.abs(found - mean).max() <= 0.5
            else:
                assert abs(found.mean() - whole.mean()) < 1


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: write_clam(path, CORNERS + 1, 1, level_dim=(512, 384)), "lie between pixels of stored level 1"),
        (lambda path: write_trident(path, size=64, target=16, patch_size_level0=160), "its patches are resampled"),
    ],
    ids=["between pixels", "resampled"],
)
def test_what_stored_tiles_cannot_give_is_refused_and_kept_otherwise(tmp_path, slide_path, capsys, write, said):
    kind = "trident" if said.startswith("its") else "clam"
    path = write(tmp_path / "a.h5")
    words = (f"--{kind}", path, "--slides", slide_path, "-o", tmp_path)
    assert import_(*words) == ExitCode.BAD_INPUT
    line = capsys.readouterr().err
    assert said in line
    assert "--pixels raw" in line
    for pixels in ("none", "jpeg:95", "raw"):
        assert import_(*words, "--pixels", pixels, "--overwrite") == 0
        with open_patches(tmp_path / "patient_024_node_4.patches.h5") as patches:
            assert len(patches) == 5
    if kind == "clam":
        with open_patches(tmp_path / "patient_024_node_4.patches.h5") as patches, openslide.OpenSlide(slide_path) as s:
            np.testing.assert_array_equal(patches[2], read_by_openslide(s, (513, 257), 1, 96))


@pytest.mark.parametrize("pixels", ["stored", "raw", "jpeg:90"])
def test_patches_over_a_spoilt_tile_are_listed_and_left_out(tmp_path, stored_images, capsys, pixels):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    zero_tile(slide, 4, 2)  # pixels 512 to 639 across, 256 to 383 down
    path = write_clam(tmp_path / "slide.h5")
    words = ("--clam", path, "--slides", slide, "-o", tmp_path, "--pixels", pixels)
    assert import_(*words) == ExitCode.TILES_FAILED
    assert "1 unreadable" in capsys.readouterr().out
    with open_patches(tmp_path / "slide.patches.h5") as patches, openslide.OpenSlide(slide) as opened:
        np.testing.assert_array_equal(patches.coords, np.delete(CORNERS, 2, axis=0))
        assert patches.failed["col"].tolist() == [2]
        assert patches.check() == []
        for (x, y), found in zip(patches.coords.tolist(), patches, strict=True):
            expected = read_by_openslide(opened, (x, y), 0, 96)
            if pixels == "jpeg:90":
                assert 0 < np.abs(found.astype(int) - expected).mean() < 5
            else:
                np.testing.assert_array_equal(found, expected)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["slide.h5", "slide.patches.h5", "slide.tif"]


def test_a_corner_that_is_listed_twice_is_two_patches_with_names_of_their_own(tmp_path, slide_path):
    path = write_clam(tmp_path / "a.h5", CORNERS[[1, 2, 1]])
    assert import_("--clam", path, "--slides", slide_path, "-o", tmp_path) == 0
    words = ["patches", "export", str(tmp_path / "patient_024_node_4.patches.h5")]
    assert run_command_line([*words, "--images", str(tmp_path / "i"), "--fda", str(tmp_path / "fda")]) == 0
    names = sorted(each.name for each in (tmp_path / "i" / "unlabelled").iterdir())
    assert names == [f"patient_024_node_4_{place}.png" for place in ("512_256", "96_0", "96_0_1")]
    with h5py.File(tmp_path / "fda/patient_024_node_4.h5") as file:
        # of a list, column and row are its number and 0
        expected = [[n, 0, *CORNERS[k], 96] for n, k in enumerate((1, 2, 1))]
        np.testing.assert_array_equal(file["t1/coord"], expected)


def test_no_coordinates_are_no_patches(tmp_path, slide_path):
    path = write_trident(tmp_path / "a.h5", np.zeros((0, 2)))
    assert import_("--trident", path, "--slides", slide_path, "-o", tmp_path) == 0
    with open_patches(tmp_path / "patient_024_node_4.patches.h5") as patches:
        assert len(patches) == 0


def test_a_slide_that_trident_took_for_another_magnification_is_said(tmp_path, slide_path, capsys):
    path = write_trident(tmp_path / "a.h5", source=20, target=20)
    assert import_("--trident", path, "--slides", slide_path, "--pixels", "none", "-o", tmp_path) == 0
    assert "TRIDENT took the slide for 20x, where 0.25 µm/px are 40x" in capsys.readouterr().out


def test_a_slide_that_does_not_say_how_large_its_pixels_are_is_asked_for(tmp_path, stored_images, capsys):
    slide = write_slide(tmp_path / "slide.tif", stored_images, mpp=None)
    path = write_clam(tmp_path / "slide.h5")
    assert import_("--clam", path, "--slides", slide, "-o", tmp_path) == ExitCode.BAD_INPUT
    assert "--slide-mpp" in capsys.readouterr().err
    assert import_("--clam", path, "--slides", slide, "--slide-mpp", "0.5", "-o", tmp_path) == 0
    with open_patches(tmp_path / "slide.patches.h5") as patches:
        assert patches.header.settings.spacing == 0.5


def elsewhere(path):
    """Coordinates that lie in another file: HDF5 would read them there."""
    write_clam(path.with_name("other.hdf"))
    with h5py.File(path, "w") as file:
        file["coords"] = h5py.ExternalLink("other.hdf", "coords")


def any_file_as_numbers(path):
    secret = path.with_name("secret.txt")
    secret.write_bytes(b"secret" * 100)
    with h5py.File(path, "w") as file:
        file.create_dataset("coords", (10, 2), np.int64, external=[(str(secret), 0, 160)])


def spoilt(path):
    write_clam(path)
    data = bytearray(path.read_bytes())
    data[:8] = b"\0" * 8
    path.write_bytes(data)


def without(path, *names):
    write_clam(path)
    with h5py.File(path, "r+") as file:
        for name in names:
            del file["coords"].attrs[name]


def without_coords(path):
    with h5py.File(path, "w") as file:
        file["imgs"] = np.zeros(3)


@pytest.mark.parametrize(
    ("kind", "write", "said"),
    [
        ("clam", spoilt, "not a readable HDF5 file"),
        ("clam", without_coords, "holds no coords"),
        ("clam", elsewhere, "holds no coords"),
        ("clam", any_file_as_numbers, "holds no coords"),
        ("clam", lambda path: without(path, "patch_size"), "does not say patch_size"),
        ("clam", lambda path: without(path, "patch_level"), "does not say patch_level"),
        ("clam", lambda path: write_clam(path, level=5), "is of stored level 5, which"),
        ("clam", lambda path: write_clam(path, custom_downsample=2), "says custom_downsample"),
        ("clam", lambda path: write_clam(path, level_dim=(1000, 768)), "was made of a slide of 1000 x 768 px"),
        ("clam", lambda path: write_clam(path, CORNERS + 2000), "5 of its 5 patches lie off"),
        ("clam", lambda path: write_clam(path, size=10**6), "says a strange patch_size"),
        ("trident", write_clam, "if it is CLAM's, use --clam"),
        ("trident", lambda path: write_trident(path, level0_width=1), "was made of a slide of 1 x 768 px"),
        ("trident", lambda path: write_trident(path, patch_size_level0=7), "says patch_size_level0 7"),
        ("trident", lambda path: write_trident(path, source=20), "enlarged 2 times"),
        ("clam", lambda path: write_clam(path, level_dim=(np.nan, np.inf)), "level_dim nan x inf"),
        ("clam", lambda path: write_clam(path, level_dim=(1024.5, 768)), "level_dim 1024.5 x 768"),
        ("trident", lambda path: write_trident(path, level0_width=np.nan), "says level0_width nan"),
        ("trident", lambda path: write_trident(path, level0_magnification=np.inf), "says level0_magnification inf"),
        ("trident", lambda path: write_trident(path, overlap=-np.inf), "says overlap -inf"),
        ("trident", lambda path: write_trident(path, source=1 << 20, target=1), "; 16384 can be read"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_left(tmp_path, slide_path, capsys, kind, write, said):
    path = tmp_path / "a.h5"
    write(path)
    assert import_(f"--{kind}", path, "--slides", slide_path, "-o", tmp_path) == ExitCode.BAD_INPUT
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line
    assert not list(tmp_path.glob("*patches.h5"))
    assert not list(tmp_path.glob(".*"))


def test_of_several_one_that_fails_keeps_none_of_the_others_back(tmp_path, slide_path, capsys, stored_images):
    write_slide(tmp_path / "slides_b.tif", stored_images[:1])
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.tif").write_bytes(slide_path.read_bytes())
    write_clam(tmp_path / "clam/a.h5", level=5)
    write_clam(tmp_path / "clam/b.h5")
    words = ("--clam", tmp_path / "clam", "--slides", folder, "-o", tmp_path)
    assert import_(*words) == ExitCode.SLIDES_FAILED
    assert "1 of 2 files of coordinates failed" in capsys.readouterr().err
    assert not (tmp_path / "a.patches.h5").exists()
    with open_patches(tmp_path / "b.patches.h5") as patches:
        assert len(patches) == 5
    assert import_(*words) == ExitCode.OUTPUT_EXISTS
    write_clam(tmp_path / "clam/c.h5")
    assert import_(*words, "--overwrite") == ExitCode.BAD_INPUT
    assert "there is no slide called c among the 2 of --slides" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give one of --clam, --trident and --images"),
        (("--clam", "a", "--images", "b"), "give one of"),
        (("--clam", "a"), "give the slides with --slides"),
        (("--clam", "a", "--slides", "b", "--table", "c"), "--table does not go with --clam"),
        (("--images", "a", "--pixels", "raw"), "--pixels does not go with --images"),
        (("--images", "a", "--mpp", "0"), "expected a number of µm per pixel above 0"),
        (("--clam", "a", "--slides", "b", "--group", "0"), "--group 0"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(tmp_path, capsys, words, said):
    assert import_(*words, "-o", tmp_path) == ExitCode.USAGE
    assert said in capsys.readouterr().err
