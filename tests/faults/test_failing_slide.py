"""A slide on a disk that fails: tiles are unreadable, or the disk is blamed; never the slide, and never the program."""

from __future__ import annotations

import csv
import errno
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import tifffile

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.end_to_end.conftest import Finished, pyramidai
from tests.end_to_end.test_damage import SIDE, tissue_slide
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

BLAMES_ANOTHER = re.compile(r"bug|Traceback|damaged|malicious|copy it again|not a whole-slide")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`failing_slide.c`, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the failing disk with")
    library = tmp_path_factory.mktemp("shim") / "failing_slide.so"
    source = REPOSITORY / "tests" / "faults" / "failing_slide.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with slides, one of which the quick hash reads in parts only, and a model that zooms everywhere."""
    folder = tmp_path_factory.mktemp("case")
    tissue_slide(folder / "slide.tif", reduced_level=True)
    tissue_slide(folder / "other.tif")
    pixels = np.full((3072, 3072, 3), 244, np.uint8)
    pixels[512:1536, 512:1536] = np.random.default_rng(3).integers((130, 60, 140), (170, 100, 180), (1024, 1024, 3))
    tifffile.imwrite(
        folder / "large.tif", pixels, tile=(256, 256), photometric="rgb", resolution=(40000, 40000),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    write_package(folder / "model", side=SIDE, thresholds=(0.5, 0.0, 0.0))
    assert pyramidai(folder / "other.tif", "--model", folder / "model", "-o", folder / "other.h5").returncode == 0
    return folder


def analysed(
    case: Path, shim: Path, out: Path, *options: str, number: int, slides: tuple[str, ...] = ("slide",), **fails: int
) -> Finished:
    """A run whose reads of the first slide fail where `fails` says."""
    words = [*(str(case / f"{name}.tif") for name in slides), "--model", str(case / "model"), *options]
    where = ["-o", str(out / "out.h5")] if len(slides) == 1 else ["--results-dir", str(out)]
    environment = dict(os.environ) | {"LD_PRELOAD": str(shim), "PYTHONPATH": str(REPOSITORY)}
    environment |= {"FAIL_PATH": str(case / f"{slides[0]}.tif"), "FAIL_ERRNO": str(number)}
    environment |= {"FAIL_COUNT": str(out / "calls")}
    environment |= {f"FAIL_{name.upper()}": str(value) for name, value in fails.items()}
    done = subprocess.run(
        [sys.executable, "-m", "pyramidai_mpi", *words, *where],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    print(done.stderr)
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE], ids=["EIO", "ESTALE"])
@pytest.mark.parametrize("reader", ["auto", "openslide"])
def test_a_disk_that_gives_nothing_is_blamed(case: Path, shim: Path, tmp_path: Path, reader: str, number: int) -> None:
    done = analysed(case, shim, tmp_path, "--reader", reader, number=number)
    assert done.returncode == 74
    assert done.stderr.count("\n") == 1
    assert f"slide.tif: cannot be read: {os.strerror(number)}" in done.stderr
    assert not BLAMES_ANOTHER.search(done.stderr)


@pytest.mark.parametrize("reader", ["auto", "openslide"])
def test_a_bad_block_under_a_stored_tile_flags_the_tiles_over_it(
    case: Path, shim: Path, tmp_path: Path, reader: str
) -> None:
    with tifffile.TiffFile(case / "large.tif") as tiff:  # stored tile at column 3, row 3, level-0 pixels 768..1023
        page, size = tiff.pages[0], tiff.filehandle.size
        offset, length = page.dataoffsets[3 * 12 + 3], page.databytecounts[3 * 12 + 3]
    # between the blocks that the quick hash looks at: what it cannot read is no slide to be told from another
    hashed = [size * block // 63 for block in range(64)]
    at = next(at for at in range(offset, offset + length, 1000) if all(abs(at - one) > 200_000 for one in hashed))
    done = analysed(case, shim, tmp_path, "--reader", reader, number=errno.EIO, slides=("large",), low=at, high=at + 1)
    assert done.returncode == 3
    assert not BLAMES_ANOTHER.search(done.stderr)
    with h5py.File(tmp_path / "out.h5") as file:
        failed = {(int(row["col"]), int(row["row"])) for row in file["failed"][...] if row["level"] == 0}
    assert failed == {(col, row) for col in range(12, 16) for row in range(12, 16)}


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["auto", "openslide"])
def test_whenever_a_disk_begins_to_fail_neither_slide_nor_program_is_blamed(
    case: Path, shim: Path, tmp_path: Path, reader: str
) -> None:
    codes = []
    calls = 0
    for share in (1, 0, 0.3, 0.6, 0.85, 0.97):
        out = tmp_path / str(share)
        out.mkdir()
        first = int(share * calls) if calls else 10**9
        done = analysed(case, shim, out, "--reader", reader, "-q", "--no-progress", number=errno.EIO, **{"from": first})
        calls = calls or int((out / "calls").read_text())
        assert not BLAMES_ANOTHER.search(done.stderr), first
        # 65: not one tile could be read, which is said with the reason
        assert done.returncode in {0, 3, 74} or "tiles could be read" in done.stderr, first
        codes.append(done.returncode)
    assert codes[:2] == [0, 74]
    assert 3 in codes[2:]


def test_of_several_slides_the_disk_of_one_fails_that_one(case: Path, shim: Path, tmp_path: Path) -> None:
    done = analysed(case, shim, tmp_path, number=errno.ESTALE, slides=("slide", "other"))
    assert done.returncode == 4
    with (tmp_path / "summary.csv").open(newline="") as file:
        rows = {row["slide"].rpartition("/")[2]: row for row in csv.DictReader(file)}
    assert {name: row["status"] for name, row in rows.items()} == {"slide.tif": "failed", "other.tif": "complete"}
    assert os.strerror(errno.ESTALE) in rows["slide.tif"]["reason"]
    assert read_digest(tmp_path / "other.h5") == read_digest(case / "other.h5")
