"""A slide damaged in any of these ways: its tiles are flagged or it is refused, and what is not flagged is untouched.

Each row damages a copy of one slide, analyses it, and compares tile by tile with the run of the undamaged slide. No row
knows how the program finds the damage: expected are the tiles whose pixels lie in the damaged stored tiles.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from pyramidai_mpi.base.errors import ExitCode, InputError
from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.run.run import run_slide
from pyramidai_mpi.testing.launch import mpirun
from tests.end_to_end.conftest import pyramidai
from tests.packages import write_package
from tests.tiffs import (
    STORED_TILE,
    claim_bytes,
    cut_tile,
    drop_tile,
    halved,
    link_pages,
    move_tile_to_the_end,
    point_beyond_the_end,
    set_field,
    textured,
    write_slide,
    zero_tail,
    zero_tile,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIDE = 64
N_LEVELS = 3


@pytest.fixture(scope="module")
def images():
    """Images of three stored levels, 1024 x 768 and halves, stained all over, so that every tile is looked at."""
    whole = textured(1024, 768)
    whole[..., 1] = whole.min(axis=2) // 2  # red, purple or blue
    return [whole, halved(whole), halved(halved(whole))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that looks at every tile of every level."""
    return write_package(tmp_path_factory.mktemp("model") / "m", side=SIDE, thresholds=(0.5, 0.0, 0.0))


@dataclass(frozen=True)
class Outcome:
    """A run: its exit code, the line of an error, and for each level {(col, row): probabilities or None}."""

    code: ExitCode
    line: str
    levels: list[dict[tuple[int, int], bytes | None]]

    def flagged(self) -> set[tuple[int, int, int]]:
        """Level, column and row of unreadable tiles."""
        return {(n, *tile) for n, level in enumerate(self.levels) for tile, seen in level.items() if seen is None}


def analysed(slide: Path, model: Path) -> Outcome:
    """Run on one rank, in this process."""
    output = slide.with_suffix(".h5")
    try:
        report = run_slide(MPI.COMM_SELF, RunSettings.of(slide=slide, model=model, output=output))
    except InputError as error:
        assert not output.exists()
        return Outcome(error.exit_code, str(error), [])
    levels = []
    with h5py.File(output) as file:
        for n in range(N_LEVELS):
            index, probability, decision = (
                file[f"levels/{n}/{name}"][...] for name in ("index", "probability", "decision")
            )
            assert (np.isnan(probability).all(axis=1) == (decision == 2)).all()
            seen = [None if d == 2 else p.tobytes() for p, d in zip(probability, decision, strict=True)]
            levels.append(dict(zip(map(tuple, index.tolist()), seen, strict=True)))
        listed = {(int(f["level"]), int(f["col"]), int(f["row"])) for f in file["failed"][...]}
    outcome = Outcome(report.exit_code, "", levels)
    assert listed == outcome.flagged()
    return outcome


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory, images, model):
    """What runs of the slide give before any damage, by compression and number of stored levels."""
    folder = tmp_path_factory.mktemp("undamaged")
    known: dict[tuple[str, int], Outcome] = {}

    def of(compression: str, n_stored: int) -> Outcome:
        if (compression, n_stored) not in known:
            slide = write_slide(folder / f"{compression}{n_stored}.tif", images[:n_stored], compression=compression)
            known[compression, n_stored] = analysed(slide, model)
            assert known[compression, n_stored].code is ExitCode.OK
            assert [len(level) for level in known[compression, n_stored].levels] == [192, 48, 12]
        return known[compression, n_stored]

    return of


def within(level: int, col: int, row: int) -> set[tuple[int, int, int]]:
    """Tiles of a level whose pixels lie in the stored tile of that level at (col, row)."""
    a_side = STORED_TILE // SIDE
    return {(level, col * a_side + i, row * a_side + j) for i in range(a_side) for j in range(a_side)}


TAILS = {
    f"the last {length} bytes of a {name} tile are zeros": (
        partial(zero_tail, col=3, row=2, length=length),
        compression,
    )
    for compression, name, lengths in (
        ("jpeg", "JPEG", (2, 8, 30, 2000)),
        ("zlib", "deflate", (1, 30, 20000)),
        ("lzw", "LZW", (8, 20000)),
        ("zstd", "Zstandard", (8, 20000)),
    )
    for length in lengths
}
OF_ONE_TILE: dict[str, tuple[Callable[..., None], str]] = {
    "a tile is zeros": (partial(zero_tile, col=3, row=2), "jpeg"),
    "the second half of a tile is zeros": (partial(cut_tile, col=3, row=2), "jpeg"),
    "a tile has no bytes": (partial(drop_tile, col=3, row=2), "jpeg"),
    "a deflated tile is zeros": (partial(zero_tile, col=3, row=2), "zlib"),
    "a tile claims 4 GB": (partial(claim_bytes, col=3, row=2, count=0xFFFFFFF0), "jpeg"),
    "a tile claims 2 GB": (partial(claim_bytes, col=3, row=2, count=0x7FFFFFF0), "zlib"),
    "a tile starts after the end": (partial(point_beyond_the_end, col=3, row=2), "jpeg"),
} | TAILS


@pytest.mark.parametrize("what", OF_ONE_TILE)
def test_damage_of_one_stored_tile_flags_its_tiles_and_no_other(what, tmp_path, images, model, undamaged):
    damage, compression = OF_ONE_TILE[what]
    slide = write_slide(tmp_path / "slide.tif", images, compression=compression)
    damage(slide)
    outcome, sound = analysed(slide, model), undamaged(compression, 3)
    expected = within(0, 3, 2)
    if outcome.code is ExitCode.OK:  # bytes that nothing needs, or that were zeros before
        expected = set()
        assert outcome.levels == sound.levels
    else:
        assert outcome.code is ExitCode.TILES_FAILED
    assert outcome.flagged() == expected
    for n in range(N_LEVELS):
        kept = {tile: seen for tile, seen in outcome.levels[n].items() if seen is not None}
        assert kept == {tile: seen for tile, seen in sound.levels[n].items() if (n, *tile) not in expected}


@pytest.mark.parametrize("what", ["a tile is zeros", "a tile has no bytes"])
@pytest.mark.parametrize("page", [1, 2])
def test_damage_of_a_reduced_level_is_seen_on_that_level(what, page, tmp_path, images, model, undamaged):
    slide = write_slide(tmp_path / "slide.tif", images)
    {"a tile is zeros": zero_tile, "a tile has no bytes": drop_tile}[what](slide, 1, 0, page)
    outcome, sound = analysed(slide, model), undamaged("jpeg", 3)
    assert outcome.code is ExitCode.TILES_FAILED
    assert outcome.flagged() == within(page, 1, 0)
    for n in range(N_LEVELS):
        assert outcome.levels[n].keys() == sound.levels[n].keys()
        assert all(seen in (None, sound.levels[n][tile]) for tile, seen in outcome.levels[n].items())


def test_a_big_tiff_whose_tile_claims_more_than_any_memory_is_flagged(tmp_path, images, model, undamaged):
    slide = write_slide(tmp_path / "slide.tif", images, bigtiff=True)
    claim_bytes(slide, 3, 2, 1 << 62)
    assert analysed(slide, model).flagged() == within(0, 3, 2)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("directories", ["first", "last"])
def test_a_file_cut_short_is_refused_or_flags_what_it_lost(share, directories, tmp_path, images, model, undamaged):
    slide = write_slide(tmp_path / "slide.tif", images)
    if directories == "first":  # all directories come before the cut, the data of one page after it
        for row in range(6):
            for col in range(8):
                move_tile_to_the_end(slide, col, row)
    size = slide.stat().st_size
    with slide.open("r+b") as file:
        file.truncate(int(size * share))
    outcome, sound = analysed(slide, model), undamaged("jpeg", 3)
    if directories == "first" and share > 0.8:
        assert outcome.code is ExitCode.TILES_FAILED
        assert 0 < len(outcome.flagged()) < sum(map(len, sound.levels))
    if outcome.code is ExitCode.BAD_INPUT:
        assert "slide.tif" in outcome.line and "\n" not in outcome.line
        return
    assert outcome.code is ExitCode.TILES_FAILED
    for n in range(N_LEVELS):
        assert outcome.levels[n].keys() == sound.levels[n].keys()
        assert all(seen in (None, sound.levels[n][tile]) for tile, seen in outcome.levels[n].items())


@pytest.mark.parametrize("n_left", [1, 2])
def test_without_its_last_levels_a_slide_gives_what_one_of_fewer_levels_gives(
    n_left, tmp_path, images, model, undamaged
):
    slide = write_slide(tmp_path / "slide.tif", images)
    link_pages(slide, n_left - 1, None)
    outcome = analysed(slide, model)
    assert outcome.code is ExitCode.OK
    assert outcome.levels == undamaged("jpeg", n_left).levels


@pytest.mark.parametrize(("page", "following"), [(2, 0), (2, 2), (1, 0), (0, 0)])
def test_a_circle_of_directories_is_refused(page, following, tmp_path, images, model):
    slide = write_slide(tmp_path / "slide.tif", images)
    link_pages(slide, page, following)
    outcome = analysed(slide, model)
    assert outcome.code is ExitCode.BAD_INPUT
    assert "slide.tif" in outcome.line


ABSURD = {
    "4000 million pixels wide": ("ImageWidth", 0xFFFFFF00, 0),
    "1 pixel wider than its tiles": ("ImageWidth", 1025, 0),
    "2000 million pixels high": ("ImageLength", 0x7FFFFFF0, 0),
    "no pixels wide": ("ImageWidth", 0, 0),
    "tiles of no width": ("TileWidth", 0, 0),
    "60000 samples a pixel": ("SamplesPerPixel", 60000, 0),
    "an unknown compression": ("Compression", 999, 0),
    "a reduced level 4000 million pixels wide": ("ImageWidth", 0xFFFFFF00, 1),
}


@pytest.mark.parametrize("what", ABSURD)
def test_absurd_directories_are_refused_in_one_line_or_their_tiles_flagged(what, tmp_path, images, model, undamaged):
    slide = write_slide(tmp_path / "slide.tif", images)
    name, value, page = ABSURD[what]
    set_field(slide, name, value, page)
    outcome = analysed(slide, model)
    assert outcome.code is ExitCode.BAD_INPUT
    assert "slide.tif" in outcome.line and "\n" not in outcome.line


def test_stored_tiles_that_are_not_what_the_directory_says_flag_their_level(tmp_path, images, model, undamaged):
    slide = write_slide(tmp_path / "slide.tif", images)
    set_field(slide, "TileWidth", 60000)
    outcome, sound = analysed(slide, model), undamaged("jpeg", 3)
    assert outcome.code is ExitCode.TILES_FAILED
    assert outcome.flagged() == {(0, *tile) for tile in sound.levels[0]}
    assert outcome.levels[1:] == sound.levels[1:]


CHANGES = {
    "more was appended": "open(path, 'ab').write(b'more')",
    "it was cut": "os.truncate(path, os.path.getsize(path) // 2)",
    "some bytes became others": "file = open(path, 'r+b'); file.seek(9000); file.write(b'other'); file.close()",
}


@pytest.mark.mpi
@pytest.mark.parametrize("change", CHANGES)
def test_a_slide_written_to_during_the_run_is_refused_with_one_line_and_no_result(change, tmp_path, images, model):
    slide = write_slide(tmp_path / "slide.tif", images)
    program = f"""
import os, sys
from pyramidai_mpi.run.pool.workload import PoolWorkload
from pyramidai_mpi.cli.main import main
expand, path, calls = PoolWorkload.expand, {str(slide)!r}, []
def spoiling(self, *tasks):
    calls.append(1)
    if len(calls) == 3:
        {CHANGES[change]}
    return expand(self, *tasks)
PoolWorkload.expand = spoiling
main(["run", path, "--model", {str(model)!r}, "-o", {str(tmp_path / "out.h5")!r}, "--batch-size", "4"])
"""
    job = mpirun(2, ["-c", program], timeout=60)
    assert job.returncode == 65
    assert "slide.tif: was written to while it was being read" in job.stderr
    assert "Traceback" not in job.stderr
    assert not (tmp_path / "out.h5").exists()


def test_the_hash_of_the_whole_slide_is_kept_on_request_alone_and_for_many(tmp_path, images, model):
    slides = [write_slide(tmp_path / f"{name}.tif", images[1:]) for name in "ab"]
    common = ["--model", model, "--results-dir", tmp_path, "--mpp", "0.25", "--overwrite"]
    for wanted in (slides[:1], slides):
        for flags in ([], ["--slide-sha256"]):
            assert pyramidai("run", *wanted, *common, *flags).returncode == 0
            for slide in wanted:
                with h5py.File(slide.with_suffix(".h5")) as file:
                    found = file["slide"].attrs.get("sha256")
                assert found == (hashlib.sha256(slide.read_bytes()).hexdigest() if flags else None)
