"""``train-slides`` from slides, and from features, to a package that runs here."""

from __future__ import annotations

import csv
import re

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

import onnxruntime
from PIL import Image

import pyramidai_mpi
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.testing.launch import mpirun
from tests.packages import write_package

pytestmark = pytest.mark.mpi

N = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Slides of tissue-coloured noise, every second darker, a blank one, and what is to be learnt of them."""
    folder = tmp_path_factory.mktemp("slides")
    rng = np.random.default_rng(0)
    rows = ["slide,label,split"]
    for n in range(N):
        pixels = np.full((256, 320, 3), 244, np.uint8)
        colour = (150, 70, 160) if n % 2 else (205, 120, 180)
        pixels[20:230, 20:300] = np.clip(colour + rng.normal(0, 25, (210, 280, 1)), 0, 255)
        Image.fromarray(pixels).save(folder / f"s{n}.png")
        rows.append(f"s{n}.png,{'tumor' if n % 2 else 'normal'},{('train', 'train', 'validation', 'test')[n // 2]}")
    Image.new("RGB", (320, 256), (244, 244, 244)).save(folder / "blank.png")
    rows.append("blank,normal,train")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


OPTIONS = ["--tiles", "4", "--tile-size", "64", "--chunk", "3", "--epochs", "1", "--accumulate", "2", "-q"]


@pytest.fixture(scope="module")
def trained(folder):
    """The package of two ranks, and what they said."""
    slides = sorted(folder.glob("s*.png"))
    words = [*slides, folder / "blank.png", "--mpp", "0.25", "--labels", folder / "labels.csv", *OPTIONS]
    job = mpirun(2, ["-m", "pyramidai_mpi", "train-slides", *words, "-o", folder / "two"], timeout=300)
    assert job.returncode == 0
    return words, job


def test_one_rank_comes_to_the_same_package(folder, trained, capfd, caplog) -> None:
    words, job = trained
    assert run_command_line(["train-slides", *map(str, words), "-o", str(folder / "one")]) == 0
    said = capfd.readouterr()
    for name in ("model.yaml", "level0.onnx", "aggregator.onnx", "predictions.csv", "log.csv"):
        of_two = (folder / "two" / name).read_text(errors="replace").replace("name: two", "name: one")
        assert (folder / "one" / name).read_text(errors="replace") == of_two
    assert "blank.png: no tissue found; left out" in caplog.text
    assert "blank.png: no tissue found; left out" in job.stderr
    digests = [line for text in (said.out, job.stdout) for line in text.splitlines() if line.startswith("weights ")]
    assert digests[0] == digests[1]
    with (folder / "one/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows} == {"validation", "test"}
    for row in rows:
        assert float(row["predicted normal"]) + float(row["predicted tumor"]) == pytest.approx(1, abs=1e-6)


def test_the_package_runs_and_its_features_make_the_predictions(folder, trained, tmp_path) -> None:
    package = load_package(folder / "two")
    assert package.classes == ("normal", "tumor")
    assert package.aggregator.task == "binary"
    row = next(csv.DictReader((folder / "two/predictions.csv").open()))
    slide = folder / f"{row['case']}.png"
    pyramidai_mpi.analyse(slide, folder / "two", output=tmp_path / "r.h5", features=True, mpp=0.25, progress=False)
    with h5py.File(tmp_path / "r.h5") as file:
        features = file["levels/0/features"][()]
    session = onnxruntime.InferenceSession(package.aggregator.onnx_path, providers=["CPUExecutionProvider"])
    prediction, attention = session.run(["prediction", "attention"], {"features": features})
    assert prediction.sum() == pytest.approx(1, abs=1e-5)
    assert attention.sum(0) == pytest.approx(1, abs=1e-5)
    # the training looked at 4 tiles of it, a run at all
    assert prediction[1] == pytest.approx(float(row["predicted tumor"]), abs=0.2)


def test_features_alone_train_an_aggregator_and_make_no_package(folder, tmp_path, capfd) -> None:
    rng = np.random.default_rng(0)
    for n in range(N):
        with h5py.File(tmp_path / f"s{n}.h5", "w") as file:
            rows = rng.normal(size=(20 + n, 8)).astype(np.float32)
            rows[:3] += 3 * (n % 2)
            file["features"] = rows[None] if n % 3 else rows
    words = ["--features", tmp_path, "--labels", folder / "labels.csv", "--epochs", "15", "--tiles", "16"]
    rates = ["--learning-rate", "0.01", "--aggregator", "transformer", "-q"]
    assert run_command_line(["train-slides", *map(str, words), *rates, "-o", str(tmp_path / "out")]) == 0
    assert "no package, as nobody knows what made the features" in capfd.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "aggregator.onnx",
        "curves.html",
        "log.csv",
        "predictions.csv",
    ]
    losses = [float(row["loss"]) for row in csv.DictReader((tmp_path / "out/log.csv").open())]
    assert losses[-1] < 0.5 * losses[0]

    more = ["--work", tmp_path / "out.work", "--resume", "-o", tmp_path / "more"]
    again = ["train-slides", *map(str, [*words, *rates, *more])]
    assert run_command_line([*again, "--epochs", "3"]) == 64
    assert "--epochs 3: " in capfd.readouterr().err
    said = (folder / "labels.csv").read_text()
    (tmp_path / "renamed.csv").write_text(said.replace("tumor", "metastasis"))
    assert run_command_line([*again, "--labels", str(tmp_path / "renamed.csv")]) == 65
    assert "is of a training with another --labels" in capfd.readouterr().err
    with h5py.File(tmp_path / "s3.h5", "a") as file:
        file["features"][:] = file["features"][:] + 1  # as many tiles as before
    assert run_command_line(again) == 65
    assert "is of a training with another set of slides, or content of one" in capfd.readouterr().err
    assert not (tmp_path / "more").exists()


def test_a_training_whose_folder_another_has_taken_saves_nothing_and_leaves_no_package(
    folder, tmp_path, monkeypatch, capfd
) -> None:
    for n in range(N):
        with h5py.File(tmp_path / f"s{n}.h5", "w") as file:
            file["features"] = np.random.default_rng(n).normal(size=(5, 4)).astype(np.float32)

    def lose(_line, _progress) -> None:
        (tmp_path / "out.work.lock").unlink(missing_ok=True)

    monkeypatch.setattr("pyramidai_mpi.cli.training_line.TrainingLine.show", lose)
    words = ["--features", tmp_path, "--labels", folder / "labels.csv", "--epochs", "1", "-q", "--resume"]
    assert run_command_line(["train-slides", *map(str, words), "-o", str(tmp_path / "out")]) == 73
    said = capfd.readouterr()
    assert "out.work: holds no state to go on from; --resume begins anew" in said.out
    assert "out.work: another run has taken the place of this one" in said.err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.work" / "state.pt").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--labels", "l.csv"], 64, "give SLIDEs, or --features"),
        (["s0.png", "--labels", "none.csv"], 65, "none.csv"),
        (
            ["s0.png", "s1.png", "--labels", "labels.csv", "--encoder", "vgg"],
            64,
            "expected small-gn, resnet18-gn, the folder",
        ),
        (["s0.png", "s1.png", "--mpp", "0.25", "--labels", "labels.csv"], 65, "no slide is for validation"),
        (
            ["s?.png", "--mpp", "0.25", "--labels", "labels.csv", "--class-weights", "a=1"],
            64,
            "--class-weights a=1: expected none, balanced, or",
        ),
        (["s0.png", "--labels", "labels.csv", "-o", "two"], 73, "two: exists already"),
        (["s0.png", "--labels", "labels.csv", "-o", "new", "--work", "two.work"], 73, "--resume goes on"),
        (["--features", "s0.png", "--labels", "labels.csv", "--frozen-encoder"], 64, "are for slides, not --features"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder, trained, monkeypatch, capfd, words, code, said) -> None:
    monkeypatch.chdir(folder)
    output = [] if "-o" in words else ["-o", "new"]
    assert run_command_line(["train-slides", *words, *output, "-q"]) == code
    error = capfd.readouterr().err.strip()
    assert re.search(said, error), error
    assert "Traceback" not in error


def test_help_names_every_task_and_aggregator() -> None:
    from pyramidai_mpi.cli.train_slides import command

    text = CliRunner().invoke(command, ["--help"]).output
    for word in ("binary", "classes", "share", "survival", "abmil", "mean", "transformer", "--resume"):
        assert word in text


def test_features_of_a_package_make_a_package(folder, tmp_path) -> None:
    encoder = write_package(tmp_path / "colour", n_levels=1, side=64, thresholds=(0.5,), with_features=True)
    slides = [folder / f"s{n}.png" for n in range(7)]
    (tmp_path / "results").mkdir()
    (tmp_path / "labels.csv").write_text(
        "slide,time,event,split\n"
        + "\n".join(f"{slide.stem},{n},1,{('train', 'validation', 'test')[n % 3]}" for n, slide in enumerate(slides))
    )
    for slide in slides:
        pyramidai_mpi.analyse(
            slide, encoder, output=tmp_path / f"results/{slide.stem}.h5", features=True, mpp=0.25, progress=False
        )
    common = ["--labels", tmp_path / "labels.csv", "--task", "survival", "--epochs", "2", "--dropout", "0", "-q"]
    of_files = ["--features", tmp_path / "results", "--encoder", encoder, "--tiles", "1000", "-o", tmp_path / "a"]
    of_slides = [
        *slides,
        "--mpp",
        "0.25",
        "--encoder",
        encoder,
        "--augment",
        "none",
        "--tiles",
        "1000",
        "-o",
        tmp_path / "b",
    ]
    for words in (of_files, of_slides):
        assert run_command_line(["train-slides", *map(str, [*words, *common])]) == 0
    packages = [load_package(tmp_path / name) for name in "ab"]
    assert packages[0].classes == packages[1].classes == ("lower risk", "higher risk")
    assert [package.aggregator.task for package in packages] == ["survival"] * 2
    tables = [list(csv.reader((tmp_path / name / "predictions.csv").open())) for name in "ab"]
    assert tables[0][0] == ["case", "split", "time", "event", "predicted risk"]
    for of_file, of_slide in zip(tables[0][1:], tables[1][1:], strict=True):
        assert of_file[:4] == of_slide[:4]
        assert float(of_file[4]) == pytest.approx(float(of_slide[4]), rel=1e-3, abs=1e-3)


def test_ranks_that_see_other_labels_are_named_before_the_first_step(tmp_path) -> None:
    rng = np.random.default_rng(0)
    splits = ("train", "validation", "test")
    rows = [f"s{n}.h5,{'tumor' if n % 2 else 'normal'},{splits[n // 2]}" for n in range(6)]
    for n in range(6):
        with h5py.File(tmp_path / f"s{n}.h5", "w") as file:
            file["features"] = rng.normal(size=(5, 4)).astype(np.float32)
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
        (tmp_path / str(rank) / "labels.csv").write_text("\n".join(["slide,label,split", *rows]))
        rows[:2] = ["s0.h5,tumor,train", "s1.h5,normal,train"]
    script = (
        "import os, sys\n"
        "from pyramidai_mpi.cli.launcher import launched_rank\n"
        "from pyramidai_mpi.cli.main import run_command_line\n"
        "os.chdir(os.path.join(sys.argv[1], str(launched_rank())))\n"
        "sys.exit(run_command_line(sys.argv[2:]))\n"
    )
    words = ["train-slides", "--features", "..", "--labels", "labels.csv", "--epochs", "1", "-q", "-o", "../out"]
    job = mpirun(2, ["-c", script, tmp_path, *words])
    assert job.returncode == 65
    assert "rank 1" in job.stderr
    assert "what is trained" in job.stderr
    assert not (tmp_path / "out").exists()
