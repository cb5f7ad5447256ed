"""``pyramidai patches``: what it makes, says, refuses and leaves alone."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import ExitCode, UsageError
from pyramidai_mpi.base.patch_order import PatchOrder, n_groups, parse_bytes, parse_pixels, parse_sample, patches_in
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.patches.database import open_patches
from tests.end_to_end.conftest import pyramidai
from tests.patch_files import order_of, write_patches_of
from tests.tiffs import drop_tile, textured, write_slide

EXTRACT = ("patches", "extract")
WAY = ("--size", 96, "--stride", 64, "--level", 0, "--no-tissue")


def words(*arguments: object) -> list[str]:
    return [str(argument) for argument in arguments]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--size", 64, "--stride", 96, "--level", 0), "would leave out what lies between"),
        (("--size", 449, "--stride", 224, "--level", 0), "use --size 448 or 450"),
        (("--size", 448), "give either --mpp"),
        (("--size", 448, "--mpp", 0.5, "--level", 0), "give either --mpp"),
        (("--size", 448, "--mpp", "nan"), "expected a number of µm per pixel above 0"),
        (("--size", 448, "--mpp", -1), "expected a number of µm per pixel above 0"),
        (("--size", 448, "--level", -1), "0 being the finest"),
        (("--size", 0, "--level", 0), "--size 0: expected 1 to"),
        (("--size", 448, "--level", 0, "--sample", "some"), "expected dense or random:N"),
        (("--size", 448, "--level", 0, "--sample", "random:0"), "above 0"),
        (("--size", 448, "--level", 0, "--group", 0), "--group 0"),
        (("--size", 448, "--level", 0, "--pixels", "png"), "--pixels png: expected stored, raw, jpeg:Q"),
        (("--size", 448, "--level", 0, "--pixels", "jpeg"), "such as jpeg:90"),
        (("--size", 448, "--level", 0, "--pixels", "jpeg:101"), "a quality Q of 1 to 100"),
        (("--size", 448, "--level", 0, "--slide-mpp", 0), "--slide-mpp 0"),
        (("--size", 448, "--level", 0, "--min-tissue", 2), "expected a share"),
        (("--size", 448, "--level", 0, "--resume", "--overwrite"), "exclude each other"),
        (("--level", 0), "--size"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_meant_is_a_usage_error_in_one_line(options, said, capsys, tmp_path):
    assert run_command_line(words(*EXTRACT, tmp_path / "x.tif", "-o", tmp_path, *options)) == ExitCode.USAGE
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line


def test_fdas_numbers_follow_from_the_memory():
    # S = 448 * 448 * 3, N = floor(M / S), G = ceil(T / N)
    assert patches_in(parse_bytes("--ram", "230MiB"), 448) == 400
    assert n_groups(22_199, 400) == 56
    assert n_groups(0, 400) == 0


@pytest.mark.parametrize(
    ("word", "n"), [("230MiB", 230 << 20), ("230M", 230 << 20), ("1.5GB", 3 << 29), ("500000", 500000), ("2k", 2048)]
)
def test_sizes_are_read(word, n):
    assert parse_bytes("--ram", word) == n


@pytest.mark.parametrize("word", ["", "much", "-1M", "1 2M", "1e3M"])
def test_what_is_no_size_is_refused(word):
    with pytest.raises(UsageError, match="expected a size such as 230MiB"):
        parse_bytes("--ram", word)


def test_samples_are_read():
    assert parse_sample("dense") is None
    assert parse_sample("random:1000") == 1000
    assert PatchOrder(448, 224, level=0, n_random=7).sample == "random:7"


def test_pixels_and_their_quality_are_read():
    assert parse_pixels("stored") == ("stored", 0)
    assert parse_pixels("jpeg:90") == ("jpeg", 90)
    assert parse_pixels("jpeg:1") == ("jpeg", 1)
    for word in ("jpeg", "jpeg:0", "jpeg:101", "jpeg:-1", "raw:90", "png", "jpeg:90 ", "files", ""):
        with pytest.raises(UsageError, match="a quality Q of 1 to 100"):
            parse_pixels(word)
    for pixels, quality in (("jpeg", 0), ("jpeg", 101), ("raw", 90)):
        with pytest.raises(UsageError, match="has no quality"):
            PatchOrder(448, 224, level=0, pixels=pixels, jpeg_quality=quality)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two slides, one with a missing stored tile."""
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "patient_024_node_4.tif", [textured(512, 384, seed=1)])
    drop_tile(write_slide(folder / "spoilt.tif", [textured(512, 384, seed=2)]), 1, 1)
    return folder


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """What one command made of both, and said."""
    output = tmp_path_factory.mktemp("patches")
    return output, pyramidai(*EXTRACT, folder, "-o", output, *words(*WAY))


def test_every_slide_has_its_file_and_those_over_damage_are_named(made):
    output, done = made
    assert done.returncode == ExitCode.TILES_FAILED
    assert sorted(path.name for path in output.iterdir()) == ["patient_024_node_4.patches.h5", "spoilt.patches.h5"]
    with open_patches(output / "spoilt.patches.h5") as patches:
        assert 0 < len(patches) < 48
        assert len(patches) + len(patches.failed) == 48
        assert done.stderr.count("unreadable: col") == len(patches.failed)
    assert "stored tile column 1, row 1 of stored level 0 is not in the file" in done.stderr


def test_a_slide_that_fails_ends_alone(folder, tmp_path):
    (tmp_path / "no.tif").write_bytes(b"no slide")
    shutil.copyfile(folder / "patient_024_node_4.tif", tmp_path / "sound.tif")
    done = pyramidai(*EXTRACT, tmp_path, "-o", tmp_path, *words(*WAY))
    assert done.returncode == ExitCode.SLIDES_FAILED
    assert "1 of 2 slides failed:" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no.tif", "sound.patches.h5", "sound.tif"]


def test_a_mask_counts_by_what_it_shows_and_not_by_its_name(folder, tmp_path):
    digests = set()
    for name in ("one.png", "other.png"):
        Image.fromarray(np.tile(np.array([[255, 0]], np.uint8).repeat(200, 1), (300, 1))).save(tmp_path / name)
        done = pyramidai(
            *EXTRACT, folder / "patient_024_node_4.tif", "-o", tmp_path, "--overwrite",
            *words("--size", 64, "--level", 0, "--tissue-mask", tmp_path / name),
        )  # fmt: skip
        assert done.returncode == 0
        with open_patches(tmp_path / "patient_024_node_4.patches.h5") as patches:
            digests.add(patches.digest)
            assert patches._file.execution().attributes["tissue_mask_file"] == name
    assert len(digests) == 1


def test_info_says_what_there_is(made, capsys):
    output, _ = made
    assert run_command_line(words("patches", "info", output / "patient_024_node_4.patches.h5")) == 0
    said = capsys.readouterr().out
    for part in (
        "patient 24, node 4, centre 1",
        "96 x 96 px at 0.25 µm/px, stride 64, margin 16",
        "48 in 1 group of up to 400, 0 unreadable",
        "12 stored tiles (jpeg)",
        "digest     ",
    ):
        assert part in said
    assert run_command_line(words("info", output / "patient_024_node_4.patches.h5")) == 0
    assert capsys.readouterr().out == said


def test_verify_says_that_all_is_sound_and_else_what_is_not(made, tmp_path, capsys):
    output, _ = made
    files = sorted(output.iterdir())
    assert run_command_line(words("patches", "verify", *files)) == 0
    said = capsys.readouterr().out
    assert said.count("all sound") == 2
    assert run_command_line(words("patches", "verify", output)) == 0
    assert capsys.readouterr().out == said
    with open_patches(files[0]) as patches:
        place = int(patches._file._tile_places[3]) + 50
    spoilt = shutil.copyfile(files[0], tmp_path / "a.patches.h5")
    data = bytearray(spoilt.read_bytes())
    data[place] ^= 1
    spoilt.write_bytes(data)
    assert run_command_line(words("patches", "verify", files[1], spoilt)) == ExitCode.BAD_INPUT
    assert "a.patches.h5: stored tile 3 was damaged" in capsys.readouterr().err


def test_the_lookup_table_has_a_row_a_slide(made, capsys):
    output, _ = made
    assert run_command_line(words("patches", "lookup", output, "--ram", 10 * 3 * 96 * 96)) == 0
    assert capsys.readouterr().out.splitlines() == ["Start End Name", "1 5 patient_024_node_4", "6 9 spoilt"]
    assert run_command_line(words("patches", "lookup", output / "spoilt.patches.h5")) == 0
    assert capsys.readouterr().out.splitlines() == ["Start End Name", "1 1 spoilt"]
    assert run_command_line(words("patches", "lookup", output / "nowhere")) == ExitCode.BAD_INPUT


def test_of_a_folder_that_holds_parts_alone_it_is_said_to_join_them(folder, tmp_path, capsys):
    slide = folder / "patient_024_node_4.tif"
    assert pyramidai(*EXTRACT, slide, "-o", tmp_path, *words(*WAY), "--part", "1/2").returncode == 0
    assert run_command_line(words("patches", "lookup", tmp_path)) == ExitCode.BAD_INPUT
    assert "holds no file of patches; join its parts first: pyramidai merge" in capsys.readouterr().err


def test_pixels_that_are_given_another_size_than_the_slide_says_are_named(folder, tmp_path):
    for name in ("a.tif", "b.tif"):
        shutil.copyfile(folder / "patient_024_node_4.tif", tmp_path / name)
    done = pyramidai(*EXTRACT, tmp_path / "a.tif", "-o", tmp_path, *words(*WAY), "--slide-mpp", "0.5")
    assert done.returncode == 0
    assert "a.tif: says that its pixels are 0.25 µm; they are taken for 0.5 µm" in done.stderr
    with open_patches(tmp_path / "a.patches.h5") as patches:
        assert patches.header.settings.spacing == 0.5
    done = pyramidai(*EXTRACT, tmp_path / "b.tif", "-o", tmp_path, *words(*WAY), "--slide-mpp", "0.252")
    assert done.returncode == 0
    assert "taken for" not in done.stderr


def test_what_is_there_is_left_alone_and_other_settings_are_refused(folder, made):
    output, _ = made
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    again = pyramidai(*EXTRACT, folder, "-o", output, *words(*WAY))
    assert again.returncode == ExitCode.TILES_FAILED
    assert again.stderr.count("is there already, complete") == 2
    alone = pyramidai(*EXTRACT, folder / "spoilt.tif", "-o", output, *words(*WAY))
    assert alone.returncode == ExitCode.OUTPUT_EXISTS
    assert len(alone.stderr.splitlines()) == 1  # said once
    other = pyramidai(
        *EXTRACT, folder / "spoilt.tif", "-o", output, *words(*WAY), "--seed", "1", "--group", "10", "--resume"
    )
    assert other.returncode == ExitCode.BAD_INPUT
    assert "holds patches taken with other --group (400, now 10)" in other.stderr
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before


def test_overwriting_makes_it_anew_with_the_same_digest(folder, made):
    output, _ = made
    path = output / "patient_024_node_4.patches.h5"
    with open_patches(path) as patches:
        before = patches.digest
    inode = path.stat().st_ino
    slide = folder / "patient_024_node_4.tif"
    assert pyramidai(*EXTRACT, slide, "-o", output, *words(*WAY), "--overwrite", "-q").stderr == ""
    with open_patches(path) as patches:
        assert patches.digest == before
    assert path.stat().st_ino != inode


def test_a_slide_whose_tiles_cannot_be_kept_is_kept_raw_and_it_says_so(tmp_path, stored_images, capsys):
    slide = write_slide(tmp_path / "slide.tif", stored_images, compression="lzw")
    done = pyramidai(*EXTRACT, slide, "-o", tmp_path, *words(*WAY), "-q")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1  # the warning, which is not left out
    assert "slide.tif: its stored tiles cannot be kept as they are: only OpenSlide can read them" in done.stderr
    assert "its patches are kept decoded (--pixels raw)" in done.stderr
    path = tmp_path / "slide.patches.h5"
    with open_patches(path) as patches:
        assert (patches.header.settings.pixels, len(patches)) == ("raw", 16 * 12)
        assert "only OpenSlide" in patches._file.execution().attributes["raw_because"]
        digest = patches.digest
    assert run_command_line(words("patches", "info", path)) == 0
    assert "a picture a patch (RGB as it is), 5.3 MB" in capsys.readouterr().out
    # asked for again in either way, it is there already; in another it is not
    for pixels, code in (("stored", 0), ("raw", 0), ("none", ExitCode.BAD_INPUT), ("jpeg:90", ExitCode.BAD_INPUT)):
        again = pyramidai(*EXTRACT, tmp_path, "-o", tmp_path, *words(*WAY), "--pixels", pixels, "--resume")
        assert again.returncode == (ExitCode.SLIDES_FAILED if code else 0)
        assert ("is there already, complete" in again.stderr) == (code == 0)
        assert ("other --pixels (raw, now" in again.stderr) == (code != 0)
    assert pyramidai(*EXTRACT, slide, "-o", tmp_path, *words(*WAY), "--pixels", "raw", "--overwrite", "-q").stderr == ""
    with open_patches(path) as patches:
        assert patches.digest == digest
    assert pyramidai(*EXTRACT, slide, "-o", tmp_path, *words(*WAY), "--pixels", "none", "--overwrite").returncode == 0


def test_raw_patches_of_a_slide_whose_tiles_can_be_kept_are_not_what_stored_asks_for(folder, tmp_path):
    way = (*words(*WAY), "-o", str(tmp_path))
    slide = folder / "spoilt.tif"
    done = pyramidai(*EXTRACT, slide, *way, "--pixels", "jpeg:85")
    assert done.returncode == ExitCode.TILES_FAILED
    assert "; JPEG pictures of " in done.stderr
    with open_patches(tmp_path / "spoilt.patches.h5") as patches:
        assert done.stderr.count("unreadable: col") == len(patches.failed) > 0
        assert patches.check() == []
    other = pyramidai(*EXTRACT, slide, *way, "--pixels", "jpeg:80", "--resume")
    assert "other --pixels (jpeg:85, now jpeg:80)" in other.stderr
    assert pyramidai(*EXTRACT, slide, *way, "--pixels", "raw", "--overwrite").returncode == ExitCode.TILES_FAILED
    other = pyramidai(*EXTRACT, slide, *way, "--resume")
    assert "other --pixels (raw, now stored)" in other.stderr


def test_fewer_cells_than_asked_for_are_all_taken_and_it_says_so(folder, tmp_path):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.repeat(np.array([[255, 0]], np.uint8), 3, axis=0).repeat(100, 0).repeat(200, 1)).save(mask)
    slide = folder / "patient_024_node_4.tif"
    way = words("--size", 64, "--level", 0, "--sample", "random:100", "--tissue-mask", mask)
    done = pyramidai(*EXTRACT, slide, "-o", tmp_path, *way)
    assert done.returncode == 0
    assert "24 patches, all there are: fewer than the 100 asked for" in done.stderr
    with open_patches(tmp_path / "patient_024_node_4.patches.h5") as patches:
        assert set(patches.table["col"].tolist()) == {0, 1, 2, 3}
        assert patches.header.settings.sample == "random:100"


def test_a_spacing_finer_than_the_slide_and_a_level_that_is_not_there_are_refused(folder, tmp_path):
    slide = folder / "patient_024_node_4.tif"
    for way, said in (
        (("--mpp", 0.1), "its finest pixels are 0.25 µm, coarser than --mpp 0.1"),
        (("--level", 3), "has no stored level 3; --level 0 to 0, or --mpp"),
    ):
        done = pyramidai(*EXTRACT, slide, "-o", tmp_path, *words("--size", 64, *way))
        assert done.returncode == ExitCode.BAD_INPUT
        assert said in done.stderr


def test_a_slide_that_does_not_say_its_spacing_is_told_with_an_option(tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", stored_images, mpp=None)
    way = words("--size", 96, "--stride", 64, "--mpp", 0.5, "--no-tissue")
    done = pyramidai(*EXTRACT, slide, "-o", tmp_path, *way)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "--slide-mpp" in done.stderr
    assert pyramidai(*EXTRACT, slide, "-o", tmp_path, *way, "--slide-mpp", "0.25").returncode == 0
    expected = write_patches_of(
        write_slide(tmp_path / "says.tif", stored_images), tmp_path / "b.h5", order_of(96, 64, mpp=0.5)
    )
    with open_patches(tmp_path / "slide.patches.h5") as found, open_patches(expected) as wanted:
        assert found.table.tobytes() == wanted.table.tobytes()  # shares not known are NaN
        np.testing.assert_array_equal(found[7], wanted[7])
