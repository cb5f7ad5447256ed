"""The FDA's, PROCESS's and WebDataset's own ways of reading, and folders of pictures, give our patches."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tarfile
from dataclasses import replace
from itertools import chain

import h5py
import numpy as np
import openslide
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.patches.formats.sources import read_sources, repeats
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import PATCH_DTYPE
from tests.patch_files import order_of, read_by_openslide, write_patches_of
from tests.patches.formats.conftest import LABELS, labelled


def export(*words: object) -> int:
    return run_command_line(["patches", "export", *map(str, words)])


def pixels_of(path):
    with open_patches(path) as patches:
        return np.stack(list(patches)), patches.coords


def files_in(folder):
    """SHA-256 of every file, by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def fda_task(folder, task):
    """What one task of an array job does: its line of the look-up table says file and group (process_array.sh)."""
    for line in (folder / "lookup.txt").read_text().splitlines()[1:]:
        start, end, name = line.split()
        if int(start) <= task <= int(end):
            with h5py.File(folder / f"{name}.h5") as file:
                group = file[f"t{task - int(start) + 1}"]
                return name, group["img"][()], group["coord"][()]
    raise LookupError(task)


def test_the_tasks_of_the_fdas_array_jobs_find_all_patches(made, tmp_path):
    both = tmp_path / "both"
    both.mkdir()
    for n, name in enumerate(("patient_024_node_4", "tumor_001")):
        slide = made.slide if not n else tmp_path / f"{name}.tif"
        if n:
            slide.write_bytes(made.slide.read_bytes())
        write_patches_of(slide, both / f"{name}.patches.h5", order_of(group=50 + 30 * n))
    assert export(both, "--fda", tmp_path / "fda") == 0
    assert (tmp_path / "fda/lookup.txt").read_text().splitlines() == [
        "Start End Name",
        "1 4 patient_024_node_4",
        "5 7 tumor_001",
    ]
    assert (tmp_path / "fda/tumor_001.csv").read_text().split() == ["3", "tumor_001"]
    tasks = [fda_task(tmp_path / "fda", task) for task in range(1, 8)]
    assert [len(img) for _, img, _ in tasks] == [50, 50, 50, 42, 80, 80, 32]
    with open_patches(both / "tumor_001.patches.h5") as patches:
        img = np.concatenate([each for name, each, _ in tasks if name == "tumor_001"])
        coord = np.concatenate([each for name, _, each in tasks if name == "tumor_001"])
        np.testing.assert_array_equal(img, np.stack(list(patches)))
        assert (img.dtype, coord.dtype) == (np.uint8, np.int64)
        for column, name in enumerate(("col", "row", "l0_x", "l0_y")):
            np.testing.assert_array_equal(coord[:, column], patches.table[name])
        assert (coord[:, 4] == 96).all()
    # split_grp.py leaves the corner of the first row and column where the tile is; a cell's window is around it
    np.testing.assert_array_equal(coord[:, 2:4], coord[:, :2] * 64 - 16)


def test_the_stitch_of_the_fda_finds_each_cell_in_the_middle_of_its_patch(made, tmp_path, stored_images):
    assert export(made.plain, "--fda", tmp_path / "fda") == 0
    canvas = np.zeros_like(stored_images[0])
    for task in range(1, 5):
        _, img, coord = fda_task(tmp_path / "fda", task)
        for patch, (col, row, *_) in zip(img, coord, strict=True):
            canvas[row * 64 : (row + 1) * 64, col * 64 : (col + 1) * 64] = patch[16:80, 16:80]
    np.testing.assert_array_equal(canvas, stored_images[0])


def test_process_has_patches_by_label_centre_patient_and_node(made, tmp_path, capsys):
    assert export(made.labelled, "--process", tmp_path / "process") == 0
    said = capsys.readouterr().out
    unknown, others = int((made.labels == -1).sum()), 1
    assert f"{192 - unknown - others} patches of 1 slide; {unknown} of unknown label are left out" in said
    assert f"{others} of labels that it has no place for" in said
    pixels, coords = pixels_of(made.labelled)
    with h5py.File(tmp_path / "process/patches.hdf5") as file, openslide.OpenSlide(made.slide) as slide:
        assert sorted(file) == ["normal", "tumor"]
        for number, kind in enumerate(("normal", "tumor")):
            node = file[f"{kind}/l0/c1/p024/n4"]
            batches = [node[str(n)] for n in range(len(node))]
            found = np.concatenate([batch["patches"][()] for batch in batches])
            places = np.concatenate([batch["locations"][()] for batch in batches])
            np.testing.assert_array_equal(found, pixels[made.labels == number])
            np.testing.assert_array_equal(places, coords[made.labels == number])
            # x, y of level 0, and red before blue: what OpenSlide reads there
            np.testing.assert_array_equal(found[7], read_by_openslide(slide, tuple(places[7].tolist()), 0, 96))
        assert file.attrs["colours"] == "RGB"


def test_two_slides_of_one_centre_keep_their_own_labels(made, tmp_path):
    folder = tmp_path / "patches"
    folder.mkdir()
    for n, name in enumerate(("patient_021_node_0", "patient_024_node_4")):
        slide = tmp_path / f"{name}.tif"
        slide.write_bytes(made.slide.read_bytes())

        def change(content, n=n):
            content = labelled(content)
            content.patches["label"] = n
            return content

        write_patches_of(slide, folder / f"{name}.patches.h5", order_of(n_random=10 + n), change=change)
    assert export(folder, "--process", tmp_path / "process") == 0
    found = {}
    with h5py.File(tmp_path / "process/patches.hdf5") as file:
        file.visititems(lambda path, one: found.update({path: len(one)} if path.endswith("/patches") else {}))
    assert found == {"normal/l0/c1/p021/n0/0/patches": 10, "tumor/l0/c1/p024/n4/0/patches": 11}


def test_a_patch_that_cannot_be_read_is_one_line_and_nothing_is_left(made, tmp_path, capsys):
    path = tmp_path / "a.patches.h5"
    data = bytearray(made.plain.read_bytes())
    with PatchFile(made.plain) as file:
        data[file.header.tile_place + file.header.tile_bytes // 2] ^= 255
    path.write_bytes(data)
    for name in ("fda", "images", "webdataset"):
        assert export(path, f"--{name}", tmp_path / name) == ExitCode.BAD_INPUT
        line = capsys.readouterr().err.strip()
        assert "was damaged after it was written" in line
        assert "\n" not in line
    assert [each.name for each in tmp_path.iterdir()] == ["a.patches.h5"]


@pytest.fixture(scope="module")
def shards(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "a"
    assert export(made.labelled, "--webdataset", folder, "--shard-size", 60) == 0
    return folder


def webdataset_samples(path):
    """Samples of a tar file: members of one key, one after the other (webdataset/tariterators.py, group_by_keys)."""
    current: dict[str, bytes | str] = {}
    with tarfile.open(path, "r|*") as stream:
        for member in stream:
            key, ending = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", member.name).groups()
            if current and key != current["__key__"]:
                yield current
                current = {}
            assert ending not in current
            current |= {"__key__": key, ending.lower(): stream.extractfile(member).read()}
    if current:
        yield current


def test_webdataset_has_a_picture_a_label_and_json_of_each_patch(made, shards, tmp_path):
    pixels, coords = pixels_of(made.labelled)
    chosen = np.flatnonzero(made.labels >= 0)
    tars = sorted(shards.glob("*.tar"))
    assert [path.name for path in tars] == [f"patches-{n:06d}.tar" for n in range(3)]
    samples = [list(webdataset_samples(path)) for path in tars]
    assert [len(each) for each in samples] == [60, 60, len(chosen) - 120]
    assert (shards / "labels.txt").read_text().split() == list(LABELS)
    for number, sample in zip(chosen.tolist(), chain.from_iterable(samples), strict=True):
        about = json.loads(sample["json"])
        assert int(sample["cls"]) == made.labels[number]
        assert (about["l0_x"], about["l0_y"]) == tuple(coords[number].tolist())
        assert about["label"] == LABELS[made.labels[number]]
        assert (about["patient"], about["node"], about["centre"]) == ("24", "4", "1")
        assert about["white"] is None
        path = tmp_path / "one.png"
        path.write_bytes(sample["png"])
        with Image.open(path) as picture:
            np.testing.assert_array_equal(np.asarray(picture), pixels[number])


def test_the_same_patches_give_the_same_shards_byte_by_byte(made, shards, tmp_path):
    assert export(made.labelled, "--webdataset", tmp_path / "b", "--shard-size", 60) == 0
    assert files_in(tmp_path / "b") == files_in(shards)


def test_dots_in_a_slides_name_are_no_endings(made, tmp_path, capsys):
    slide = tmp_path / "TCGA-CR-7395.01a.3f.tif"
    slide.write_bytes(made.slide.read_bytes())
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(n_random=5))
    assert export(path, "--webdataset", tmp_path / "a", "--format", "jpeg") == 0
    assert "without labels (.cls), as the files hold none" in capsys.readouterr().out
    samples = list(webdataset_samples(tmp_path / "a/patches-000000.tar"))
    assert len(samples) == 5
    assert all(set(sample) == {"__key__", "json", "jpg"} for sample in samples)
    assert all(sample["__key__"].startswith("TCGA-CR-7395.01a.3f/") for sample in samples)


def test_pictures_lie_in_a_folder_a_label_with_a_table(made, tmp_path):
    folder = tmp_path / "images"
    assert export(made.labelled, "--images", folder) == 0
    pixels, coords = pixels_of(made.labelled)
    with (folder / "patches.csv").open() as table:
        rows = list(csv.DictReader(table))
    chosen = np.flatnonzero(made.labels >= 0)
    assert len(rows) == len(chosen)
    for number, row in zip(chosen.tolist(), rows, strict=True):
        label, (x, y) = LABELS[made.labels[number]], coords[number].tolist()
        assert row["file"] == f"{label}/patient_024_node_4_{x}_{y}.png"
        assert (row["label"], row["patient"], row["l0_x"], row["l0_y"]) == (label, "24", str(x), str(y))
        with Image.open(folder / row["file"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), pixels[number])
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == sorted(LABELS)


def test_jpegs_are_near_the_pixels(made, tmp_path):
    assert export(made.plain, "--images", tmp_path / "images", "--format", "jpeg") == 0
    pixels, coords = pixels_of(made.plain)
    x, y = coords[100].tolist()
    with Image.open(tmp_path / f"images/unlabelled/patient_024_node_4_{x}_{y}.jpg") as picture:
        assert picture.format == "JPEG"
        assert (
            np.abs(np.asarray(picture).astype(int) - pixels[100]).mean() < 5
        )  # noise of 8 grey levels is what JPEG leaves out


def test_several_at_once_and_each_again_only_on_request(made, tmp_path, capsys):
    options = [word for name in ("clam", "fda", "process", "images") for word in (f"--{name}", tmp_path / name)]
    assert export(made.labelled, *options) == 0
    before = files_in(tmp_path)
    assert len(before) > 160
    capsys.readouterr()
    assert export(made.labelled, *options) == ExitCode.OUTPUT_EXISTS
    assert "use --overwrite to replace it" in capsys.readouterr().err
    assert export(made.labelled, *options, "--overwrite") == 0
    assert files_in(tmp_path) == before
    told = json.loads((tmp_path / "fda/pyramidai-patches.json").read_text())
    with open_patches(made.labelled) as patches:
        assert told["patches"] == [
            {"file": "labelled.patches.h5", "slide": "patient_024_node_4.tif", "digest": patches.digest}
        ]


@pytest.mark.parametrize("name", ["clam", "fda", "webdataset", "images"])
@pytest.mark.parametrize("foreign", ["notes.txt", "normal/notes.txt"])
def test_a_folder_that_holds_anything_else_is_left_alone(made, tmp_path, name, foreign, capsys):
    assert export(made.labelled, f"--{name}", tmp_path / "a") == 0
    (tmp_path / "a" / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / "a" / foreign).write_text("mine")
    before = files_in(tmp_path)
    assert export(made.labelled, f"--{name}", tmp_path / "a", "--overwrite") == ExitCode.OUTPUT_EXISTS
    assert "holds something else than patches for" in capsys.readouterr().err
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("source", "options", "code", "said"),
    [
        ("bare", ("--fda", "a"), 65, "keeps coordinates alone (--pixels none), and --fda writes pixels"),
        ("bare", ("--images", "a"), 65, "keeps coordinates alone"),
        ("plain", ("--process", "a"), 65, "holds no labels, and --process is made of them"),
        ("plain", (), 64, "nothing to export; give at least one of --clam, --trident"),
        ("plain", ("--fda", "a", "--clam", "a"), 64, "is named for --clam and for --fda"),
        ("plain", ("--fda", "a", "--format", "png"), 64, "--format goes with"),
        ("plain", ("--fda", "a", "--shard-size", 3), 64, "--shard-size goes with --webdataset"),
        ("plain", ("--webdataset", "a", "--shard-size", 0), 64, "above 0"),
        ("plain", ("--fda", "none/a"), 74, "no such folder"),
        ("slide", ("--fda", "a"), 65, "patient_024_node_4.tif"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_nothing_is_left(made, tmp_path, capsys, source, options, code, said):
    words = [tmp_path / word if str(word).endswith("a") and "--" not in str(word) else word for word in options]
    assert export(getattr(made, source), *words) == code
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line
    assert not list(tmp_path.iterdir())


def test_files_of_one_slides_name_are_not_mixed(made, tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / f"{name}.patches.h5").write_bytes(made.plain.read_bytes())
    assert export(tmp_path, "--fda", tmp_path / "fda") == ExitCode.BAD_INPUT
    assert "is of a slide called patient_024_node_4, as" in capsys.readouterr().err


def test_labels_that_differ_are_not_mixed(made, tmp_path, capsys):
    slide = tmp_path / "other.tif"
    slide.write_bytes(made.slide.read_bytes())

    def swapped(content):
        return replace(labelled(content), settings=replace(content.settings, labels='["tumor", "normal", "a"]'))

    write_patches_of(slide, tmp_path / "other.patches.h5", order_of(), change=swapped)
    (tmp_path / "labelled.patches.h5").write_bytes(made.labelled.read_bytes())
    assert export(tmp_path, "--webdataset", tmp_path / "a") == ExitCode.BAD_INPUT
    assert "has the labels tumor, normal, a, but" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../escape", "..", "a/b"])
def test_a_crafted_label_leads_out_of_no_folder(made, tmp_path, capsys, name):
    def crafted(content):
        names = json.dumps([name, "b", "c"])
        return replace(labelled(content), settings=replace(content.settings, labels=names))

    path = write_patches_of(made.slide, tmp_path / "a.patches.h5", order_of(), change=crafted)
    assert export(path, "--images", tmp_path / "images") == ExitCode.BAD_INPUT
    assert "cannot be that of a file or folder" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.patches.h5"]


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        ("Patches.CSV", "images", "is called like a file of the export"),
        ("pyramidai-patches.json", "images", "is called like a file of the export"),
        ("two\nlines", "webdataset", "is of two lines, of which labels.txt has one each"),
    ],
)
def test_a_label_that_a_format_cannot_say_is_refused(made, tmp_path, capsys, name, option, said):
    def crafted(content):
        return replace(labelled(content), settings=replace(content.settings, labels=json.dumps([name, "b", "c"])))

    path = write_patches_of(made.slide, tmp_path / "a.patches.h5", order_of(), change=crafted)
    assert export(path, f"--{option}", tmp_path / "made") == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.patches.h5"]


def test_a_crafted_slide_name_leads_out_of_no_folder(made, tmp_path):
    def crafted(content):
        return replace(content, slide=replace(content.slide, name="../../evil.ome.tif"))

    path = write_patches_of(made.slide, tmp_path / "a.patches.h5", order_of(), change=crafted)
    assert export(path, "--trident", tmp_path / "in" / "trident") == ExitCode.IO  # no such folder
    (tmp_path / "in").mkdir()
    assert export(path, "--trident", tmp_path / "in" / "trident") == 0
    assert [each.name for each in (tmp_path / "in/trident/patches").iterdir()] == ["evil_patches.h5"]


def test_the_room_for_pixels_is_one_whatever_the_number_of_groups(made):
    (source,) = read_sources([made.plain])
    bases = [pixels.base for _, pixels in source.groups()]
    assert len(bases) == 4
    assert all(base is bases[0] for base in bases)


def test_patches_of_one_corner_have_names_of_their_own():
    rows = np.zeros(6, PATCH_DTYPE)
    rows["l0_x"] = [5, 1, 5, 5, 1, 2]
    assert repeats(rows).tolist() == [0, 0, 1, 2, 1, 0]
    assert repeats(rows[[0, 1, 5]]).tolist() == [0, 0, 0]
