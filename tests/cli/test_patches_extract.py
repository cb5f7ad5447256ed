"""``pyramidai patches extract``: labels, limits on pixels, places and origins, as a user gives them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.patches.database import open_patches
from tests.end_to_end.conftest import pyramidai
from tests.tiffs import textured, write_slide
from tests.truth.files import feature, geojson

WAY = ("--size", 96, "--stride", 64, "--level", 0, "--no-tissue")
N_COLS, N_ROWS = 8, 6


def words(*arguments: object) -> list[str]:
    return [str(argument) for argument in arguments]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tumor-share", 0.3, "--normal-share", 0.3), "that of tumour the larger"),
        (("--normal-share", -0.1), "expected shares in [0, 1]"),
        (("--only-label", "tumor"), "--only-label needs --truth"),
        (("--tumor-share", "0.5"), "--tumor-share needs --truth"),
        (("--normal-share", "0.1"), "--normal-share needs --truth"),
        (("--group", str(10**20)), "expected a number of patches from 1 to 2147483647"),
        (("--only-label", "benign", "--truth", "."), "--only-label"),
        (("--above", 0.5), "--above needs --places"),
        (("--above", 1.5, "--places", "x.h5"), "--above 1.5: expected a score in [0, 1]"),
        (("--max-white", 1.1), "--max-white 1.1: expected a share"),
        (("--max-black", "nan"), "--max-black nan: expected a share"),
        (("--white-level", 255), "--white-level 255: expected 0 to 254"),
        (("--ram", "230MiB", "--group", 5), "give one"),
        (("--ram", "10k"), "hold no patch of 96 x 96 pixels"),
        (("--ram", "much"), "expected a size such as 230MiB"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_meant_is_a_usage_error_in_one_line(options, said, capsys, tmp_path):
    line = words("patches", "extract", tmp_path / "x.tif", "-o", tmp_path, *WAY, *options)
    assert run_command_line(line) == ExitCode.USAGE
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide of 8 x 6 cells, of which the tumour is the left three columns and a half, and the right three white."""
    folder = tmp_path_factory.mktemp("slides")
    image = textured(512, 384, seed=1)
    image[:, 5 * 64 :] = 240
    write_slide(folder / "a.tif", [image])
    geojson(folder / "a.geojson", feature([[[0, 0], [224, 0], [224, 384], [0, 384]]]))
    return folder


def extract(folder, output, *options):
    return pyramidai("patches", "extract", folder / "a.tif", "-o", output, *words(*WAY, *options))


def test_patches_are_labelled_measured_and_limited_and_it_says_how_many(folder, tmp_path, capsys):
    done = extract(folder, tmp_path, "--truth", folder, "--max-white", 0.5, "--normal-share", 0.1, "--tumor-share", 0.6)
    assert done.returncode == 0, done.stderr
    # windows reach 16 px beyond their cells: of those around column 5 more than half is white
    assert f"{5 * N_ROWS} patches (6 normal, 18 tumor, 6 unknown); 18 too white or black" in done.stderr
    with open_patches(tmp_path / "a.patches.h5") as patches:
        table = patches.table
        assert set(table["col"].tolist()) == {0, 1, 2, 3, 4}
        assert np.array_equal(table["label"], np.array([1, 1, 1, -1, 0])[table["col"]])
        assert table["tumor"].tolist() == np.array([1, 1, 1, 0.5, 0])[table["col"]].tolist()
        assert (table["white"] <= 0.5).all()
        assert (patches.header.n_refused, patches.header.n_cells) == (18, 48)
        for record, pixels in zip(table, patches, strict=True):
            x, y = (max(0, -int(record[name])) for name in ("l0_x", "l0_y"))
            there = pixels[y : 384 - int(record["l0_y"]), x:]
            assert record["white"] == pytest.approx((there > 200).all(axis=2).mean())
    capsys.readouterr()
    assert run_command_line(words("patches", "info", tmp_path / "a.patches.h5")) == 0
    said = capsys.readouterr().out
    assert "labels     normal, tumor (tumor from 0.6, normal up to 0.1 of the tissue)" in said
    assert "limits     white up to 0.5; 18 beyond (white: all channels above 200)" in said


def test_without_truth_and_measuring_nothing_is_known(folder, tmp_path):
    assert extract(folder, tmp_path).returncode == 0
    with open_patches(tmp_path / "a.patches.h5") as patches:
        assert (patches.table["label"] == -1).all()
        for name in ("tumor", "white", "black"):
            assert np.isnan(patches.table[name]).all()
    assert extract(folder, tmp_path, "--measure", "--overwrite").returncode == 0
    with open_patches(tmp_path / "a.patches.h5") as patches:
        assert len(patches) == 48
        assert (patches.table["white"][patches.table["col"] == 6] == 1).all()
        assert not patches.table["black"].any()


def test_a_draw_goes_on_until_as_many_pass_or_says_how_many_there_are(folder, tmp_path):
    for n, said in ((20, "20 patches"), (40, "30 patches; 30 of 40 asked for, of 48 cells; 18 too white or black")):
        done = extract(folder, tmp_path, "--sample", f"random:{n}", "--max-white", 0.5, "--overwrite")
        assert done.returncode == 0
        assert said in done.stderr
    done = extract(folder, tmp_path, "--sample", "random:10", "--truth", folder, "--overwrite")
    # 24 normal cells and 24 of tumour from a share of one half on
    assert "20 patches (10 normal, 10 tumor, 0 unknown)" in done.stderr
    done = extract(folder, tmp_path, "--sample", "random:30", "--truth", folder, "--only-label", "tumor", "--overwrite")
    assert "24 patches (0 normal, 24 tumor, 0 unknown), all there are of tumor: fewer than the 30" in done.stderr


def test_listed_places_that_are_normal_are_hard_negatives(folder, tmp_path):
    (tmp_path / "a.csv").write_text("l0_x,l0_y\n10,10\n300,300\n310,310\n500,20\n")
    done = extract(folder, tmp_path, "--truth", folder, "--places", tmp_path, "--only-label", "normal")
    assert "2 patches (2 normal, 0 tumor, 0 unknown)" in done.stderr
    with open_patches(tmp_path / "a.patches.h5") as patches:
        assert patches.table[["col", "row"]].tolist() == [(7, 0), (4, 4)]
    (tmp_path / "a.csv").write_text("l0_x,l0_y\n10,10\n")
    again = extract(folder, tmp_path, "--truth", folder, "--places", tmp_path, "--only-label", "normal", "--resume")
    assert again.returncode == ExitCode.BAD_INPUT
    assert "holds patches taken with other --places" in again.stderr
    none = extract(folder, tmp_path, "--truth", folder, "--places", tmp_path, "--only-label", "normal", "--overwrite")
    assert "0 patches (0 normal, 0 tumor, 0 unknown), as no cell with enough tissue has the label" in none.stderr


def test_one_list_for_several_slides_and_a_slide_without_truth_are_refused(folder, tmp_path):
    write_slide(tmp_path / "b.tif", [textured(256, 256)])
    (tmp_path / "list.csv").write_text("x,y\n1,1\n")
    both = words("patches", "extract", folder / "a.tif", tmp_path / "b.tif", "-o", tmp_path, *WAY)
    done = pyramidai(*both, "--places", tmp_path / "list.csv")
    assert done.returncode == ExitCode.USAGE
    assert "is no folder, for 2 slides" in done.stderr
    done = pyramidai(*both, "--truth", folder)
    assert done.returncode == ExitCode.SLIDES_FAILED
    assert "holds no truth for slide 'b'" in done.stderr
    with open_patches(tmp_path / "a.patches.h5") as patches:
        assert (patches.table["label"] >= 0).any()
    assert not (tmp_path / "b.patches.h5").exists()


def test_a_changed_annotation_is_refused(folder, tmp_path):
    truth = tmp_path / "truth"
    truth.mkdir()
    geojson(truth / "a.geojson", feature([[[0, 0], [128, 0], [128, 128], [0, 128]]]))
    assert extract(folder, tmp_path, "--truth", truth).returncode == 0
    same = extract(folder, tmp_path, "--truth", truth, "--resume")
    assert same.returncode == 0
    assert "is there already, complete" in same.stderr
    geojson(truth / "a.geojson", feature([[[0, 0], [128, 0], [128, 192], [0, 192]]]))
    other = extract(folder, tmp_path, "--truth", truth, "--resume")
    assert other.returncode == ExitCode.BAD_INPUT
    assert "holds patches taken with other --truth;" in other.stderr
    for options, said in (
        (("--truth", truth, "--tumor-share", 0.7), "other shares of tumour for labels"),
        (("--truth", truth, "--max-black", 0.7), "limits on pixels (none, now white above 200, black up to 0.7)"),
        ((), "--truth"),
    ):
        other = extract(folder, tmp_path, *options, "--resume")
        assert other.returncode == ExitCode.BAD_INPUT
        assert said in other.stderr


def test_a_changed_tissue_mask_is_refused_too(folder, tmp_path):
    for width in (64, 32):
        Image.fromarray(np.repeat([[255] * width + [0] * (128 - width)], 96, axis=0).astype(np.uint8)).save(
            tmp_path / "mask.png"
        )
        way = words("--size", 96, "--stride", 64, "--level", 0, "--tissue-mask", tmp_path / "mask.png", "--resume")
        done = pyramidai("patches", "extract", folder / "a.tif", "-o", tmp_path, *way)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "--tissue-mask" in done.stderr


def test_a_table_says_where_slides_are_from(folder, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("slide,patient,centre\na,P 12,Utrecht\n")
    done = extract(folder, tmp_path, "--origin", table)
    assert done.returncode == 0
    assert "does not name" not in done.stderr
    with open_patches(tmp_path / "a.patches.h5") as patches:
        assert patches.origin == {"patient": "P 12", "centre": "Utrecht"}
    table.write_text("slide,patient\nb,P 12\n")
    other = extract(folder, tmp_path, "--origin", table, "--resume")
    assert other.returncode == ExitCode.BAD_INPUT
    assert "table.csv: does not name 1 of 1 slides, whose origin stays unknown: a.tif" in other.stderr
    assert "other origin (patient P 12, centre Utrecht, now none)" in other.stderr


def test_labelled_and_limited_parts_join_to_the_whole(folder, tmp_path):
    way = ("--truth", folder, "--max-white", 0.5)
    for number in (1, 2):
        assert extract(folder, tmp_path, *way, "--part", f"{number}/2").returncode == 0
    assert pyramidai("merge", tmp_path).returncode == 0
    (tmp_path / "whole").mkdir()
    assert extract(folder, tmp_path / "whole", *way).returncode == 0
    with open_patches(tmp_path / "a.patches.h5") as joined, open_patches(tmp_path / "whole" / "a.patches.h5") as whole:
        assert joined.digest == whole.digest
        assert joined.header.n_refused == whole.header.n_refused == 18
    refused = extract(folder, tmp_path, "--max-white", 0.5, "--sample", "random:9", "--part", "1/3")
    assert refused.returncode == ExitCode.USAGE
    assert "takes the first that pass of a whole slide" in refused.stderr


def test_groups_are_as_large_as_the_memory_allows(folder, tmp_path):
    assert extract(folder, tmp_path, "--ram", 5 * 3 * 96 * 96 + 100).returncode == 0
    with open_patches(tmp_path / "a.patches.h5") as patches:
        assert (patches.group_size, patches.n_groups) == (5, 10)
        assert json.loads(patches.header.settings.regions) == {}
