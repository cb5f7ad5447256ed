"""The highest-scored tiles are those that the result says, with the very pixels that the network was given."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import openslide
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import InputError, OutputExistsError, UsageError
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.export.formats import Order, make, parse_formats
from pyramidai_mpi.export.tiles import DEFAULT_TOP, write_tiles
from pyramidai_mpi.export.top_tiles import highest_last_looks, highest_tiles
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import read_header
from pyramidai_mpi.testing.contracts import check_export
from tests.results import result_of, write_file

SIDE = 64


@pytest.fixture(scope="module")
def made(lossless_slide):
    """A result of the lossless slide, in which some scores are equal."""
    result = result_of(np.ones((24, 32), bool))
    level = result.tree.levels[0]
    probability = np.round(level.probability, 1)
    levels = {**result.tree.levels, 0: replace(level, probability=probability)}
    return replace(
        result,
        tree=replace(result.tree, levels=levels),
        slide=replace(result.slide, quickhash=quickhash(lossless_slide)),
    )


@pytest.fixture
def result(made, tmp_path):
    """Its file."""
    return write_file(tmp_path / "out.h5", made)


def rows_of(folder):
    with (folder / "tiles.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected(made, level=0):
    """Rows of a level, the highest score first, of equal ones the upper, then the left one."""
    tiles = made.tree.levels[level]
    readable = [n for n in range(len(tiles.index)) if tiles.decision[n] != Decision.UNREADABLE]
    return sorted(readable, key=lambda n: (-tiles.probability[n, 1], tiles.index[n, 1], tiles.index[n, 0]))


def test_it_keeps_the_contract_of_exports(made, lossless_slide, tmp_path_factory):
    folder = tmp_path_factory.mktemp("contract")
    sound = write_file(folder / "sound.h5", made)
    damaged = folder / "damaged.h5"
    damaged.write_bytes(sound.read_bytes()[:-2000])
    (folder / "here").mkdir()

    def export(result, target, overwrite):
        write_tiles(result, target, lossless_slide, overwrite=overwrite, top=5)

    check_export(export, sound, damaged, folder / "here")


def test_the_table_lists_the_highest_scores_in_an_order_that_ties_do_not_change(result, made, lossless_slide, tmp_path):
    write_tiles(result, tmp_path / "tiles", lossless_slide, top=20)
    tiles = made.tree.levels[0]
    wanted = expected(made)[:20]
    rows = rows_of(tmp_path / "tiles")
    assert len({row["score"] for row in rows}) < 20  # there are ties
    assert [(int(row["col"]), int(row["row"])) for row in rows] == [tuple(tiles.index[n].tolist()) for n in wanted]
    for row, n in zip(rows, wanted, strict=True):
        assert (int(row["l0_x"]), int(row["l0_y"])) == tuple((tiles.index[n] * SIDE).tolist())
        assert (row["level"], row["l0_side"], row["spacing_um_px"]) == ("0", "64", "0.2528")
        assert [np.float32(row["prob_normal"]), np.float32(row["prob_tumor"])] == tiles.probability[n].tolist()
        assert np.float32(row["score"]) == tiles.probability[n, 1]
        assert int(row["decision"]) == tiles.decision[n]
        assert row["outcome"] == {0: "negative", 1: "positive"}[tiles.decision[n]]


def test_pixels_are_those_of_the_slide_as_openslide_reads_them(result, lossless_slide, tmp_path):
    write_tiles(result, tmp_path / "tiles", lossless_slide, top=12)
    with openslide.OpenSlide(lossless_slide) as slide:
        for row in rows_of(tmp_path / "tiles"):
            corner = int(row["l0_x"]), int(row["l0_y"])
            with Image.open(tmp_path / "tiles" / row["file"]) as picture:
                assert picture.mode == "RGB"
                found = np.asarray(picture)
            assert np.array_equal(found, np.asarray(slide.read_region(corner, 0, (SIDE, SIDE)))[..., :3])


def test_names_sort_by_rank_and_say_score_and_place(result, lossless_slide, tmp_path):
    write_tiles(result, tmp_path / "tiles", lossless_slide, top=12)
    names = sorted(path.name for path in (tmp_path / "tiles").glob("*.png"))
    rows = rows_of(tmp_path / "tiles")
    assert names == [row["file"] for row in rows]
    first = rows[0]
    assert names[0] == f"0001_{float(first['score']):.4f}_x{first['l0_x']}_y{first['l0_y']}.png"


def test_fewer_tiles_than_asked_for_are_all_of_them(result, made, lossless_slide, tmp_path):
    write_tiles(result, tmp_path / "tiles", lossless_slide, top=100_000)
    assert len(rows_of(tmp_path / "tiles")) == len(expected(made))


def test_a_result_without_tiles_has_a_table_without_rows(made, lossless_slide, tmp_path):
    empty = replace(result_of(np.zeros((24, 32), bool)), slide=made.slide)
    write_tiles(write_file(tmp_path / "out.h5", empty), tmp_path / "tiles", lossless_slide)
    assert [path.name for path in (tmp_path / "tiles").iterdir()] == ["tiles.csv"]
    assert rows_of(tmp_path / "tiles") == []


def test_blocks_of_any_size_give_the_same_tiles(result, made, monkeypatch):
    monkeypatch.setattr("pyramidai_mpi.store.results.tables._BLOCK_BYTES", 80)
    with open_result(result) as file:
        found = highest_tiles(file, read_header(file), 0, 15)
    index = made.tree.levels[0].index
    assert [(tile.col, tile.row) for tile in found] == [tuple(index[n].tolist()) for n in expected(made)[:15]]


def test_where_level_0_has_few_tiles_those_where_the_run_stopped_follow(result, made):
    with open_result(result) as file:
        found = highest_last_looks(file, read_header(file), 100_000)
    n_fine = len(expected(made))
    assert {tile.level for tile in found[:n_fine]} == {0}
    assert [tile.level for tile in found] == sorted(tile.level for tile in found)
    assert {tile.decision for tile in found[n_fine:]} == {Decision.STOP}
    stops = {n: (made.tree.levels[n].decision == Decision.STOP).sum() for n in (1, 2)}
    assert len(found) == n_fine + sum(stops.values())


def test_a_tile_that_cannot_be_read_again_ends_the_export_and_leaves_nothing(
    result, lossless_slide, tmp_path, monkeypatch
):
    def unreadable(self, level, t_col, t_row):
        raise UnreadableRegionError("the disk fails")

    monkeypatch.setattr(SlidePyramid, "read_tile", unreadable)
    with pytest.raises(InputError, match=r"lossless\.tif.*cannot be read now: the disk fails"):
        write_tiles(result, tmp_path / "tiles", lossless_slide)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_levels_that_would_be_read_otherwise_than_they_were_are_refused(made, lossless_slide, tmp_path):
    other = replace(made, levels=(replace(made.levels[0], patch_level=1), *made.levels[1:]))
    with pytest.raises(InputError, match="level 0 is read otherwise now"):
        write_tiles(write_file(tmp_path / "out.h5", other), tmp_path / "tiles", lossless_slide)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_a_folder_that_holds_anything_else_is_never_replaced(result, lossless_slide, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "tiles.csv").write_text("minx,miny\n")
    (mine / "slide.h5").write_text("a result")
    with pytest.raises(OutputExistsError, match="holds something else"):
        write_tiles(result, mine, lossless_slide, overwrite=True)
    assert sorted(path.name for path in mine.iterdir()) == ["slide.h5", "tiles.csv"]


def test_how_many_tiles_were_asked_for_is_noted(result, lossless_slide):
    (tiles,) = parse_formats("tiles")
    target = result.with_name("out.tiles")
    five = Order(tiles, target, settings=((tiles.settings[0], "5"),))
    assert make(five, result, lossless_slide, resume=True)
    assert not make(five, result, lossless_slide, resume=True)
    assert make(Order(tiles, target), result, lossless_slide, resume=True)
    assert len(rows_of(target)) == DEFAULT_TOP


def test_the_options_go_together(result, lossless_slide, tmp_path, capsys):
    assert run_command_line(["export", str(result), "--tiles", str(tmp_path / "t")]) == 64
    assert "give it with --slide" in capsys.readouterr().err
    words = ["export", str(result), "--slide", str(lossless_slide)]
    assert run_command_line([*words, "--csv", str(tmp_path / "a.csv"), "--top", "3"]) == 64
    assert "--top goes with --tiles" in capsys.readouterr().err
    assert run_command_line([*words, "--tiles", str(tmp_path / "t"), "--top", "0"]) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5"]
    assert run_command_line([*words, "--tiles", str(tmp_path / "t"), "--top", "3"]) == 0
    assert len(rows_of(tmp_path / "t")) == 3
    with pytest.raises(UsageError, match="slide"):
        write_tiles(result, tmp_path / "u")
    with pytest.raises(UsageError, match="--top 0"):
        write_tiles(result, tmp_path / "u", lossless_slide, top=0)
