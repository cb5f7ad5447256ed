"""``pyramidai train --patches``: a package of one level from files of labelled patches."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install pyramidai_mpi[train]")

import pyramidai_mpi  # noqa: E402
from pyramidai_mpi.base.errors import InputError, UsageError  # noqa: E402
from pyramidai_mpi.cli.main import run_command_line  # noqa: E402
from pyramidai_mpi.models.package import load_package  # noqa: E402
from pyramidai_mpi.patches.database import open_patches  # noqa: E402
from pyramidai_mpi.ranks.unit_pool import UnitPool  # noqa: E402
from pyramidai_mpi.training.patch_files import LabelledFiles, PatchPlan  # noqa: E402
from pyramidai_mpi.training.splits import Split  # noqa: E402
from pyramidai_mpi.training.tile_store import TileStore  # noqa: E402
from tests.packages import write_package  # noqa: E402
from tests.patch_files import labelled_by, order_of, write_patches_of  # noqa: E402
from tests.tiffs import textured, write_slide  # noqa: E402

SIDE = 64
SLIDES = [f"patient_{patient:03}_node_{node}" for patient in range(5) for node in (0, 1)]


def half_dark(seed):
    """The right half is darker than the left."""
    image = textured(512, 256, seed)
    image[:, 256:] //= 2
    return image


def is_dark(table):
    """0 for the left half, 1 for the right one, unknown in the last row."""
    return np.where(table["row"] == 3, -1, table["col"] >= 4).astype(np.int16)


def write_labelled(folder, name, image, labels=("normal", "tumor"), **others):
    """Patches of a slide of 8 x 4 cells."""
    slide = write_slide(folder / f"{name}.tif", [image], mpp=0.5)
    return write_patches_of(
        slide, folder / f"{name}.patches.h5", order_of(SIDE, SIDE, **others), change=labelled_by(labels, is_dark)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of ten slides of five patients."""
    folder = tmp_path_factory.mktemp("patches")
    for seed, name in enumerate(SLIDES):
        write_labelled(folder, name, half_dark(seed))
    return folder


def train(*words, epochs=12):
    fixed = ["--epochs", str(epochs), "--batch-size", "8", "--learning-rate", "0.003", "-q"]
    return run_command_line(["train", "--patches", *map(str, words), *fixed])


@pytest.fixture(scope="module")
def package(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "trained"
    assert train(folder, "-o", out) == 0
    return out


def splits_of(card):
    return {
        kind: re.findall(r"patient_\d+_node_\d+", line) for kind, line in re.findall(r"^- (\w+): (.*)$", card, re.M)
    }


def test_the_package_has_one_level_of_the_patches_size_and_spacing_and_their_labels(package):
    made = load_package(package)
    assert (made.tile_size, made.base_mpp, made.n_levels) == (SIDE, 0.5, 1)
    assert made.classes == ("normal", "tumor")
    assert made.classes[made.positive_class] == "tumor"


def test_no_patient_is_in_two_splits_and_each_file_in_one(package):
    splits = splits_of((package / "README.md").read_text())
    assert splits.keys() == {"train", "validation", "test"}
    assert sorted(name for names in splits.values() for name in names) == SLIDES
    patients = [{name.split("_")[1] for name in names} for names in splits.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 5
    assert (len(splits["train"]), len(splits["validation"]), len(splits["test"])) == (6, 2, 2)


def test_it_has_learnt_what_is_there_to_learn_and_says_what_was_left_out(package):
    card = (package / "README.md").read_text()
    accuracies = [float(value) for value in re.findall(r"(\d\.\d{3}) \(\d+\)", card)]
    assert len(accuracies) == 3
    assert min(accuracies) > 0.9
    assert "80 without a known label were left out" in card
    assert re.findall(r"\((\d+)\)", card) == ["144", "48", "48"]  # 12 and 12 of each file


def test_a_run_takes_it_on_the_slide_and_on_its_patches(folder, package):
    results = [
        pyramidai_mpi.analyse(folder / f"{SLIDES[0]}{ending}", package, no_tissue=True, progress=False)
        for ending in (".tif", ".patches.h5")
    ]
    assert results[0].digest == results[1].digest
    tiles = results[0].levels[0].tiles
    assert len(tiles) == 32
    is_right = (tiles["decision"] == 1) == (tiles["col"] >= 4)
    assert is_right.mean() > 0.9


def test_the_same_command_goes_on_and_reads_no_patch_again(folder, tmp_path):
    work = tmp_path / "work"
    assert train(folder, "-o", tmp_path / "a", "--work", work, epochs=1) == 0
    kept = {path: path.stat().st_mtime_ns for path in work.glob("tiles/*.np?")}
    assert len(kept) == 20
    assert train(folder, "-o", tmp_path / "b", "--work", work, "--resume", epochs=2) == 0
    assert kept == {path: path.stat().st_mtime_ns for path in work.glob("tiles/*.np?")}
    assert "2 of 2" in (tmp_path / "b/README.md").read_text() or "1 of 2" in (tmp_path / "b/README.md").read_text()


def test_drawn_are_patches_of_the_files_with_their_labels_equally_many_of_each(folder, tmp_path):
    labelled = LabelledFiles.read([folder], None)
    assert labelled.counts() == (120, 120)
    assert labelled.n_unknown == 80
    model = load_package(write_package(tmp_path / "model", n_levels=1, side=SIDE))
    split = labelled.split(3)
    tiles = drawn(PatchPlan(model, labelled, per_class=5, seed=3), split[Split.TRAIN], tmp_path)
    known = Counter()
    for path in split[Split.TRAIN]:
        with open_patches(path) as patches:
            known.update((patches[n].tobytes(), label) for n, label in enumerate(patches.table["label"].tolist()))
    pixels = tiles.pixels[:]
    assert Counter((one.tobytes(), int(right)) for one, right in zip(pixels, tiles.positive, strict=True)) <= known
    assert (len(tiles), int(tiles.positive.sum())) == (2 * 5 * 6, 5 * 6)
    more = LabelledFiles.read([folder / f"{SLIDES[0]}.patches.h5", *split[Split.TRAIN][:1]][-1:], None)
    alone = drawn(PatchPlan(model, more, per_class=5, seed=3), split[Split.TRAIN][:1], tmp_path)
    assert {one.tobytes() for one in alone.pixels[:]} <= {one.tobytes() for one in pixels}
    across = tiles.position[:, 0]
    assert across[~tiles.positive].max() < 0.5 < across[tiles.positive].min(), "the right half is dark, and positive"


def drawn(plan, files, folder):
    store = TileStore(folder / "tiles", 1)
    store.draw(UnitPool(), plan, files)
    return store.of(files, 0, seed=3)


def test_a_table_says_the_split(folder, tmp_path):
    labelled = LabelledFiles.read([folder], None)
    kinds = ["train", "validation", "test", "train", "train"]
    by_patient, by_slide = tmp_path / "patients.csv", tmp_path / "slides.csv"
    by_patient.write_text("patient,split\n" + "".join(f"{n},{kind}\n" for n, kind in enumerate(kinds)))
    names = [f"{name}{'.tif' if number % 2 else ''};{kinds[number // 2]}" for number, name in enumerate(SLIDES)]
    by_slide.write_text("slide;split\n" + "\n".join([*names, "another;test"]))
    for table in (by_patient, by_slide):
        split = labelled.split(0, table)
        assert [path.name[:11] for path in split[Split.VALIDATION]] == ["patient_001"] * 2
        assert {path.name[:11] for path in split[Split.TRAIN]} == {"patient_000", "patient_003", "patient_004"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide,split\n" + "".join(f"{name},train\n" for name in SLIDES), "none of the files into validation, test"),
        ("slide,split\n" + "".join(f"{name},{'train' if n % 2 else 'test'}\n" for n, name in enumerate(SLIDES)),
         "patient_000_node_0.tif is in test and patient_000_node_1.tif in train, though both are of one patient"),
        ("patient,split\n0,train\n", "names no split of patient_001_node_0.tif"),
        ("patient,split\n0,train\n0,test\n", "line 3: patient 0 is in train already"),
        ("patient,split\n0,learn\n", "line 2: expected a patient, and train, validation or test"),
        ("name,split\n0,train\n", "expected a line of names, split and file, slide or patient"),
        ("", "expected a line of names"),
        ("file,fold\na,1\n", "is a table of folds; say with --fold N"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused_with_what_is_wrong(folder, tmp_path, text, said):
    table = tmp_path / "split.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        LabelledFiles.read([folder], None).split(0, table)


def test_a_table_of_folds_says_the_split_with_the_fold_that_tests(folder, tmp_path):
    labelled = LabelledFiles.read([folder], None)
    table = tmp_path / "folds.csv"
    rows = [f"{name}.patches.h5,{int(name[8:11]) % 4}" for name in SLIDES]  # patients 0 and 4 are in fold 0
    table.write_text("\n".join(["file,fold", *rows]))
    for fold, test, validation in ((0, {"000", "004"}, {"001"}), (3, {"003"}, {"000", "004"})):
        split = labelled.split(0, table, fold)
        patients = {kind: {path.name[8:11] for path in paths} for kind, paths in split.items()}
        assert (patients[Split.TEST], patients[Split.VALIDATION]) == (test, validation)
        assert sum(map(len, split.values())) == 10
    for fold in (4, -1):
        with pytest.raises(UsageError, match="has folds 0 to 3"):
            labelled.split(0, table, fold)
    with pytest.raises(UsageError, match="give it with --split"):
        labelled.split(0, None, 1)


def test_too_few_patients_are_too_few_however_many_slides(folder):
    with pytest.raises(
        UsageError, match="2 patients or slides with tumor: training, validation and test need one each"
    ):
        LabelledFiles.read([folder / f"{name}.patches.h5" for name in SLIDES[:4]], None).split(0)


def test_of_more_labels_one_is_positive_and_all_others_are_not(tmp_path):
    names = ("benign", "atypical", "malignant")
    path = write_labelled(tmp_path, "a", half_dark(0), labels=names)
    with pytest.raises(UsageError, match="which of the labels benign, atypical, malignant is positive"):
        LabelledFiles.read([path], None)
    labelled = LabelledFiles.read([path], "malignant")
    assert labelled.classes == ("not malignant", "malignant")
    assert labelled.counts() == (24, 0)
    assert LabelledFiles.read([path], "atypical").counts() == (12, 12)
    with pytest.raises(UsageError, match="--positive-label tumor: the files have labels benign"):
        LabelledFiles.read([path], "tumor")


@pytest.mark.parametrize(
    ("labels", "said"), [((), "has no labels"), (("tissue", ), "has one label, tissue")], ids=["none", "one"]
)  # fmt: skip
def test_files_without_two_labels_are_refused(tmp_path, labels, said):
    slide = write_slide(tmp_path / "a.tif", [half_dark(0)], mpp=0.5)
    unlabelled = (labels, lambda table: np.full(len(table), -1, np.int16))
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(SIDE, SIDE), change=labelled_by(*unlabelled))
    with pytest.raises(InputError, match=f"{said}; training needs two"):
        LabelledFiles.read([path], None)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--truth", "."], 64, "--truth is for annotated slides"),
        (["--levels", "1"], 64, "--levels is for annotated slides"),
        (["--stain", "macenko"], 64, "--stain is for annotated slides"),
        (["--stain-per", "tile"], 64, "--stain-per is for annotated slides"),
        (["--arch", "inception_v3"], 64, "looks at 75 pixels a side or more, not at 64"),
        (["--positive-label", "tumour"], 64, "the files have labels normal, tumor"),
        (["--split", "missing.csv"], 65, "missing.csv"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line_before_the_work(folder, tmp_path, capsys, options, code, said):
    assert train(folder, "-o", tmp_path / "out", *options) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_annotated_slides_need_truth_and_take_no_option_of_patches(folder, tmp_path, capsys):
    slides = [str(path) for path in folder.glob("*.tif")]
    assert run_command_line(["train", *slides, "-o", str(tmp_path / "out")]) == 64
    assert "Missing option '--truth', or --patches" in capsys.readouterr().err
    options = ["--truth", str(folder), "-o", str(tmp_path / "out"), "--split", "a.csv"]
    assert run_command_line(["train", *slides, *options]) == 64
    assert "--split is for files of patches, with --patches" in capsys.readouterr().err


def test_each_patient_is_tested_once_in_a_cross_validation(folder, tmp_path, capsys):
    assert train(folder, "-o", tmp_path / "out", "--folds", "5", epochs=1) == 0
    tested = []
    for fold in range(5):
        splits = splits_of((tmp_path / f"out/fold-{fold}/README.md").read_text())
        patients = {kind: {name.split("_")[1] for name in names} for kind, names in splits.items()}
        assert len(patients["test"]) == len(patients["validation"]) == 1
        assert len(set.union(*patients.values())) == sum(map(len, patients.values())) == 5
        tested += patients["test"]
    assert len(set(tested)) == 5
    assert "| standard deviation |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--folds", "5", "--leave-centre-out"], "--folds and --leave-centre-out: each says what trains"),
        (["--folds", "6"], "slides with tumour are of 5 patients; use fewer folds"),
        (["--leave-centre-out"], "all slides are of centre 0"),
        (["--class-weights", "1"], "expected balanced, or two numbers"),
        (["--origin", "o.csv"], "--origin is for annotated slides"),
        (["--nesterov"], "--nesterov is a way of --optimizer sgd"),
    ],
)
def test_ways_of_training_that_do_not_fit_are_said_before_the_work(folder, tmp_path, capsys, options, said):
    assert train(folder, "-o", tmp_path / "out", *options) == 64
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_network_may_be_told_where_a_patch_lies(folder, tmp_path):
    assert train(folder, "-o", tmp_path / "out", "--position", epochs=1) == 0
    package = load_package(tmp_path / "out")
    assert package.sees_position
    slide = folder / f"{SLIDES[0]}.patches.h5"
    result = pyramidai_mpi.analyse(slide, package.folder, no_tissue=True, progress=False)
    assert len(result.levels[0].tiles) == 32
    assert "--position" in (tmp_path / "out/README.md").read_text()
