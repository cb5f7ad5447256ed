"""Parts of a slide's patches, made apart and joined, are the extraction in one piece."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest

from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.testing.launch import REPOSITORY, kill, started
from tests.commands import commands
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import tissue_slide, wipe_tile
from tests.patch_files import resealed
from tests.tiffs import textured, write_slide

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

SLOWLY = REPOSITORY / "tests" / "faults" / "run_slowly.py"
DENSE = ("--size", "48", "--stride", "24", "--level", "0")
DRAWN = ("--size", "64", "--level", "0", "--sample", "random:50", "--seed", "4")
OF = 7


def extract(folder: Path, output: Path, *options: str, slide: str = "slide.tif") -> list[str]:
    output.mkdir(exist_ok=True)
    return ["patches", "extract", str(folder / slide), *options, "-o", str(output)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A damaged slide, its patches in one piece, dense and drawn, and the parts of the former."""
    folder = tmp_path_factory.mktemp("patch-parts")
    wipe_tile(tissue_slide(folder / "slide.tif"), 5)
    ended = commands(
        extract(folder, folder / "dense", *DENSE),
        extract(folder, folder / "drawn", *DRAWN),
        *(extract(folder, folder / "parts", *DENSE, "--part", f"{number}/{OF}") for number in range(1, OF + 1)),
    )
    assert {one.returncode for one in ended} == {0, 3}
    return folder


def whole(folder: Path) -> Path:
    return folder / "slide.patches.h5"


def part(number: int) -> str:
    return f"slide.patches.part-{number}-of-{OF}.h5"


def assert_same(found: Path, expected: Path) -> None:
    with open_patches(found) as here, open_patches(expected) as there:
        assert here.check() == []
        assert here.digest == there.digest
        assert here.table.tobytes() == there.table.tobytes()


def test_parts_joined_are_the_extraction_in_one_piece_and_its_pixels_those_of_the_slide(
    folder: Path, tmp_path: Path
) -> None:
    joined, again, refused, shown = commands(
        ["merge", folder / "parts", "-o", whole(tmp_path)],
        ["merge", folder / "parts", "-o", whole(tmp_path)],
        ["patches", "verify", folder / "parts" / part(2)],
        ["info", folder / "parts" / part(2)],
    )
    assert joined.returncode == again.returncode == 3  # some are unreadable
    assert "7 parts joined" in joined.stderr
    assert "is there already, the same" in again.stderr
    assert "is a part of a file of patches" in refused.stderr
    assert "part       2 of 7" in shown.stdout
    assert_same(whole(tmp_path), whole(folder / "dense"))
    with open_patches(whole(tmp_path)) as patches, openslide.OpenSlide(folder / "slide.tif") as slide:
        assert patches.header.n_failed > 50
        for number in range(0, len(patches), 97):
            l0_x, l0_y = patches.coords[number].tolist()
            region = np.asarray(slide.read_region((l0_x, l0_y), 0, (48, 48)))[..., :3]
            np.testing.assert_array_equal(patches.patch(number), region)


def test_a_file_that_says_another_patient_than_the_parts_is_not_the_same(folder: Path, tmp_path: Path) -> None:
    shutil.copy(whole(folder / "dense"), whole(tmp_path))
    resealed(whole(tmp_path), lambda file: file["slide"].attrs.__setitem__("patient", "P"))
    join = ["merge", folder / "parts", "-o", whole(tmp_path)]
    refused, replaced = commands(join, [*join, "--overwrite"])
    assert refused.returncode == 73
    assert "exists already (says another patient, node or centre)" in refused.stderr
    assert replaced.returncode == 3
    with open_patches(whole(tmp_path)) as patches:
        assert patches.origin == {}


def test_a_killed_part_is_gone_on_with_and_one_by_two_ranks_is_the_same(folder: Path, tmp_path: Path) -> None:
    for number in (1, 3, 4, 5, 7):
        shutil.copy(folder / "parts" / part(number), tmp_path)
    words = extract(folder, tmp_path, *DENSE, "--part", f"2/{OF}")
    with started(None, [SLOWLY, "0.01", *words]) as job:
        assert job.wait_until(
            lambda: sum(path.stat().st_size for path in tmp_path.glob("*.journal/*.tiles")) > 500, timeout=60
        )
        kill(job.launcher.pid, signal.SIGKILL)
        assert job.wait() != 0
    by_two = pyramidai(*extract(folder, tmp_path, *DENSE, "--part", f"6/{OF}"), ranks=2)
    assert by_two.returncode in {0, 3}
    missing, redone, joined = commands(["merge", tmp_path], [*words, "--resume"], ["merge", tmp_path])
    assert missing.returncode == 65
    assert "part 2 of 7 of slide.tif is missing" in missing.stderr
    assert "going on from the journal" in redone.stderr
    assert joined.returncode == 3
    assert_same(whole(tmp_path), whole(folder / "dense"))
    assert not list(tmp_path.glob("*.journal"))


def test_a_draw_is_dealt_and_more_parts_than_cells_are_empty_parts(folder: Path, tmp_path: Path) -> None:
    few = ("--size", "512", "--level", "0", "--pixels", "none")
    *_, drawn, sparse = commands(
        *(extract(folder, tmp_path / "drawn", *DRAWN, "--part", f"{number}/3") for number in (1, 2, 3)),
        extract(folder, tmp_path / "whole", *few),
        *(extract(folder, tmp_path / "few", *few, "--part", f"{number}/6") for number in range(1, 7)),
        ["merge", tmp_path / "drawn"],
        ["merge", tmp_path / "few"],
    )
    assert drawn.returncode in {0, 3}
    assert sparse.returncode == 0
    assert_same(whole(tmp_path / "drawn"), whole(folder / "drawn"))
    assert_same(whole(tmp_path / "few"), whole(tmp_path / "whole"))
    with open_patches(whole(tmp_path / "few")) as patches:
        assert len(patches) == 4


def test_parts_of_a_slide_whose_tiles_cannot_be_kept_are_pictures_and_joined(tmp_path: Path) -> None:
    write_slide(tmp_path / "slide.tif", [textured(512, 384)], compression="lzw")
    words = ("--size", "64", "--level", "0", "--no-tissue")
    *_, joined, again = commands(
        extract(tmp_path, tmp_path / "whole", *words),
        *(extract(tmp_path, tmp_path / "parts", *words, "--part", f"{number}/3") for number in (1, 2, 3)),
        ["merge", tmp_path / "parts"],
        ["merge", tmp_path / "parts"],
    )
    assert joined.returncode == again.returncode == 0
    assert "is there already, the same" in again.stderr
    assert_same(whole(tmp_path / "parts"), whole(tmp_path / "whole"))
    with open_patches(whole(tmp_path / "parts")) as here, open_patches(whole(tmp_path / "whole")) as there:
        assert here.header.images is not None
        for number in range(0, len(there), 7):
            np.testing.assert_array_equal(here.patch(number), there.patch(number))


def test_patches_within_limits_are_dealt_and_draws_with_limits_are_not(folder: Path, tmp_path: Path) -> None:
    words = ("--size", "64", "--level", "0", "--no-tissue", "--max-white", "0.5")
    *_, joined, refused = commands(
        extract(folder, tmp_path / "whole", *words),
        *(extract(folder, tmp_path / "parts", *words, "--part", f"{number}/3") for number in (1, 2, 3)),
        ["merge", tmp_path / "parts"],
        extract(folder, tmp_path / "drawn", *words, "--sample", "random:6", "--part", "1/3"),
    )
    assert joined.returncode == 3
    assert_same(whole(tmp_path / "parts"), whole(tmp_path / "whole"))
    with open_patches(whole(tmp_path / "parts")) as here, open_patches(whole(tmp_path / "whole")) as there:
        assert here.header.n_refused == there.header.n_refused > 0
    assert refused.returncode == 64  # which cells pass would depend on those of other parts
    assert list((tmp_path / "drawn").iterdir()) == []


def test_what_is_missing_damaged_or_of_another_run_is_named(folder: Path, tmp_path: Path) -> None:
    for number in (1, 3, 4, 5, 6, 7):
        shutil.copy(folder / "parts" / part(number), tmp_path)
    data = bytearray((tmp_path / part(3)).read_bytes())
    data[-200] ^= 1
    (tmp_path / part(3)).write_bytes(data)
    slides = ["--slides", str(folder / "slide.tif"), "--parts", "7", "--patches", "--missing"]
    other = [str(folder / "parts" / part(number)) for number in (1, 3, 4, 5, 6, 7)]
    listed, damaged, _, foreign, done, again = commands(
        ["merge", tmp_path, *slides],
        ["merge", tmp_path],
        extract(folder, tmp_path / "x", *DENSE, "--min-tissue", "0.5", "--part", f"2/{OF}"),
        ["merge", *other, tmp_path / "x" / part(2), "-o", tmp_path / "x.h5"],
        ["merge", folder / "dense", *slides],
        ["merge", folder / "dense", *slides[:-1]],
    )
    assert listed.stdout == "2\n3\n"
    assert damaged.returncode == 65
    assert f"{part(3)}: was damaged or changed" in damaged.stderr
    assert foreign.returncode == 65
    assert "other least tissue share (0.5, there 0.05)" in foreign.stderr
    assert not (tmp_path / "x.h5").exists()
    assert (done.returncode, done.stdout) == (0, "")  # the whole file is there
    assert again.returncode == 0
    assert "is there already, complete; its parts are not" in again.stderr


def test_of_several_slides_every_nth_is_a_parts(folder: Path, tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in "abc":
        tissue_slide(slides / f"{name}.tif")
    extract(slides, tmp_path / "out", *DRAWN)
    words = ["patches", "extract", str(slides), *DRAWN, "-o", str(tmp_path / "out"), "--part"]
    check = ["merge", tmp_path / "out", "--slides", slides, "--parts", "2", "--patches"]
    second, none, left, first, all_there = commands(
        [*words, "2/2"], [*words, "4/4"], [*check, "--missing"], [*words, "1/2"], check
    )
    assert second.returncode == none.returncode == first.returncode == all_there.returncode == 0
    assert "part 4 of 4 has no slide" in none.stderr
    assert left.stdout == "1\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{name}.patches.h5" for name in "abc"]


@pytest.mark.parametrize("pixels", ["raw", "jpeg:80"])
def test_pictures_of_parts_are_joined_as_they_are(folder: Path, tmp_path: Path, pixels: str) -> None:
    few = ("--size", "128", "--stride", "64", "--level", "0", "--pixels", pixels)
    *_, joined, again = commands(
        extract(folder, tmp_path / "whole", *few),
        *(extract(folder, tmp_path / "parts", *few, "--part", f"{number}/3") for number in (1, 2, 3)),
        ["merge", tmp_path / "parts"],
        ["merge", tmp_path / "parts"],
    )
    assert joined.returncode == again.returncode == 3
    assert "is there already, the same" in again.stderr
    assert_same(whole(tmp_path / "parts"), whole(tmp_path / "whole"))
    with open_patches(whole(tmp_path / "parts")) as here, open_patches(whole(tmp_path / "whole")) as there:
        assert len(here) > 20
        assert here.header.images is not None
        for number in range(len(here)):
            assert here._file.picture(number) == there._file.picture(number)
