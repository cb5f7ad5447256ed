"""``pyramidai train`` on a few annotated slides."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install pyramidai_mpi[train]")

from pyramidai_mpi.base.errors import UsageError  # noqa: E402
from pyramidai_mpi.base.settings import SlideInput  # noqa: E402
from pyramidai_mpi.cli.main import run_command_line  # noqa: E402
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine  # noqa: E402
from pyramidai_mpi.models.package import ModelPackage, load_package  # noqa: E402
from pyramidai_mpi.models.stain.map import MacenkoTarget  # noqa: E402
from pyramidai_mpi.ranks.unit_pool import UnitPool  # noqa: E402
from pyramidai_mpi.run.opening import open_under, rule_of, segment_slide  # noqa: E402
from pyramidai_mpi.synth import SynthSpec, write_slide  # noqa: E402
from pyramidai_mpi.testing.launch import REPOSITORY  # noqa: E402
from pyramidai_mpi.training.fit_settings import FitSettings  # noqa: E402
from pyramidai_mpi.training.fitting import FitPlace, fit, score  # noqa: E402
from pyramidai_mpi.training.labelled_patches import TilePlan  # noqa: E402
from pyramidai_mpi.training.networks.compact import new_network  # noqa: E402
from pyramidai_mpi.training.splits import Split, split_slides  # noqa: E402
from pyramidai_mpi.training.tile_store import LabelledTiles, TileStore  # noqa: E402
from tests.leaving import assert_nothing, left_by  # noqa: E402
from tests.packages import write_package  # noqa: E402
from tests.stains import lab_of, pixels_looked_at, plain_macenko, plain_reinhard  # noqa: E402


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("slides")
    paths = [folder / f"s{seed}.tif" for seed in range(4)]
    for seed, path in enumerate(paths):
        write_slide(SynthSpec(2600, 2600, seed=seed + 20, tumor_share=0.4 if seed else 0.0), path)
    return paths


def words(slides: list[Path], out: Path, *options: str) -> list[str]:
    fixed = ["--truth", str(slides[0].parent), "-o", str(out), "--levels", "1", "--tiles", "12", "-q"]
    return ["train", *map(str, slides), *fixed, *options]


def test_a_package_comes_out_that_stopped_and_resumed_is_the_same(slides, tmp_path, capsys) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run_command_line(words(slides, whole, "--epochs", "3")) == 0
    assert "| 0 |" in capsys.readouterr().out
    # the state of a training that was stopped after its first epoch is that of one of one epoch
    first = tmp_path / "first"
    use = ["--intended-use", "demonstration"]
    assert run_command_line(words(slides, first, "--epochs", "1", "--work", str(tmp_path / "work"), *use)) == 0
    assert [load_package(folder).intended_use for folder in (whole, first)] == [None, "demonstration"]
    assert "Intended use: not stated; not for diagnosis." in (whole / "README.md").read_text()
    assert "Intended use: demonstration model: scores mean nothing" in (first / "README.md").read_text()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("tiles/*.np?")}
    assert len(kept) == 8
    again = words(slides, stopped, "--epochs", "3", "--work", str(tmp_path / "work"))
    assert run_command_line(again) == 73
    assert "--resume goes on from there, --overwrite begins anew" in capsys.readouterr().err
    assert run_command_line([*again, "--resume"]) == 0
    assert kept == {path: path.stat().st_mtime_ns for path in kept}, "tiles were read again"
    package = load_package(whole)
    tiles = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), np.uint8)
    scores = [OnnxEngine(load_package(f).levels[0], package).predict(tiles)[0] for f in (whole, stopped, first)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2], atol=1e-5)
    assert (whole / "log.csv").read_bytes() == (stopped / "log.csv").read_bytes()
    assert run_command_line(words(slides, first, "--epochs", "1")) == 73
    assert run_command_line([*again, "--overwrite"]) == 0
    assert (whole / "log.csv").read_bytes() == (stopped / "log.csv").read_bytes()
    assert (whole / "level0.onnx").read_bytes() == (stopped / "level0.onnx").read_bytes()
    card = (whole / "README.md").read_text()
    assert all(slide.name in card for slide in slides)


def test_a_state_of_other_settings_is_refused(slides, tmp_path, capsys) -> None:
    work = ["--work", str(tmp_path / "work"), "--epochs", "1"]
    assert run_command_line(words(slides, tmp_path / "a", *work, "--resume")) == 0
    assert "work: holds no state to go on from; --resume begins anew" in capsys.readouterr().out
    assert run_command_line(words(slides, tmp_path / "b", *work, "--resume", "--learning-rate", "0.01")) == 65
    assert "is of a training with another --learning-rate (0.0001, here 0.01)" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_state_of_other_slides_is_refused(slides, tmp_path, capsys) -> None:
    work = ["--work", str(tmp_path / "work"), "--epochs", "1"]
    assert run_command_line(words(slides, tmp_path / "a", *work)) == 0
    assert run_command_line(words(slides[1:], tmp_path / "b", *work, "--resume")) == 65
    assert "is of a training with another tiles" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_coarser_level_can_start_from_what_the_finer_one_has_learnt(slides, tmp_path) -> None:
    options = ["--levels", "2", "--epochs", "1", "--learning-rate", "1e-9"]  # a step that changes next to nothing
    packages = [tmp_path / "apart", tmp_path / "chained"]
    for out, more in zip(packages, ([], ["--from-finer"]), strict=True):
        assert run_command_line([*words(slides, out, *options), *more]) == 0
    tiles = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)
    apart, chained = (
        [OnnxEngine(level, load_package(out)).predict(tiles, features=True)[1] for level in load_package(out).levels]
        for out in packages
    )
    weight_noise = 1e-6
    assert np.abs(apart[0] - chained[0]).max() < weight_noise
    assert np.abs(chained[0] - chained[1]).mean() < 0.5 * np.abs(apart[0] - apart[1]).mean()


def drawn(slides: list[Path], plan: TilePlan, folder: Path) -> LabelledTiles:
    """Tiles of level 0."""
    store = TileStore(folder / "tiles", plan.model.n_levels)
    store.draw(UnitPool(), plan, slides)
    return store.of(slides, 0, seed=0)


def slide_and_rule(path: Path, package: ModelPackage):
    slide = open_under(SlideInput(path), package)
    return slide, rule_of(slide, segment_slide(slide))


def test_a_package_trained_on_one_slides_colours_asks_for_them(slides, tmp_path) -> None:
    options = ["--epochs", "1", "--stain", "reinhard", "--stain-target", str(slides[2])]
    assert run_command_line([*words(slides[1:], tmp_path / "m"), *options]) == 0
    package = load_package(tmp_path / "m")
    pixels = pixels_looked_at(*slide_and_rule(slides[2], package))
    lab = lab_of(pixels[(-np.log((pixels + 1.0) / 240) >= 0.15).all(axis=1)])
    assert package.stain == "reinhard"
    np.testing.assert_allclose(package.stain_target.mean, lab.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(package.stain_target.std, lab.std(axis=0), atol=1e-9)
    assert "reinhard" in (tmp_path / "m/README.md").read_text()


@pytest.mark.parametrize(("method", "plain"), [("macenko", plain_macenko), ("reinhard", plain_reinhard)])
def test_tiles_to_train_on_are_normalised_by_their_own_slides_stain(slides, tmp_path, method, plain) -> None:
    model = load_package(write_package(tmp_path / "model", n_levels=1, side=224))
    bare = TilePlan(model, slides[0].parent, 0.5, per_class=4, seed=0)
    plan = bare.with_stain(method, None, slides[1])
    raw, seen = (drawn([slides[3]], one, tmp_path) for one in (bare, plan))
    slide_pixels = pixels_looked_at(*slide_and_rule(slides[3], plan.model))
    before, after = raw.pixels[:], seen.pixels[:]
    assert np.abs(after - plain(before, slide_pixels, plan.model.stain_target)).max() < 1
    assert np.abs(after.astype(int) - before).max() > 5


@pytest.mark.parametrize(("method", "plain"), [("macenko", plain_macenko), ("reinhard", plain_reinhard)])
def test_tiles_to_train_on_are_each_normalised_by_its_own_stain(slides, tmp_path, method, plain) -> None:
    model = load_package(write_package(tmp_path / "model", n_levels=1, side=224))
    bare = TilePlan(model, slides[0].parent, 0.5, per_class=4, seed=0)
    plan = bare.with_stain(method, None, slides[1], "tile")
    raw, seen = (drawn([slides[3]], one, tmp_path) for one in (bare, plan))
    assert len(raw) == len(seen) > 0
    for tile, found in zip(raw.pixels[:], seen.pixels[:], strict=True):
        assert np.abs(found - plain(tile, tile.reshape(-1, 3), plan.model.stain_target)).max() < 1


def test_a_package_trained_on_tiles_of_their_own_stain_asks_for_that(slides, tmp_path, capsys) -> None:
    words_of_it = [*words(slides[1:], tmp_path / "m"), "--epochs", "1", "--stain-per", "tile"]
    assert run_command_line(words_of_it) == 64
    assert "--stain-per tile needs --stain macenko or reinhard" in capsys.readouterr().err
    assert run_command_line([*words_of_it, "--stain", "macenko"]) == 0
    package = load_package(tmp_path / "m")
    assert (package.stain, package.stain_target, package.stain_per) == ("macenko", MacenkoTarget(), "tile")
    assert "macenko, of each tile" in (tmp_path / "m/README.md").read_text()


def test_tiles_and_states_of_other_colours_have_other_names(slides, tmp_path) -> None:
    model = load_package(write_package(tmp_path / "model", n_levels=1, side=224))
    bare = TilePlan(model, slides[0].parent, 0.5, per_class=4, seed=0)
    targets = [("macenko", None), ("macenko", slides[2]), ("macenko", slides[3]), ("reinhard", None)]
    plans = [bare, *(bare.with_stain(method, target, slides[1]) for method, target in targets)]
    plans += [bare.with_stain(method, None, slides[1], "tile") for method in ("macenko", "reinhard")]
    assert len({plan.stain_mark for plan in plans}) == len(plans)
    assert bare.stain_mark == ""
    assert plans[1].model.stain_target == MacenkoTarget()


def test_a_target_for_no_normalisation_is_a_mistake(slides, tmp_path, capsys) -> None:
    assert run_command_line([*words(slides, tmp_path / "m"), "--stain-target", str(slides[0])]) == 64
    assert "--stain macenko or reinhard" in capsys.readouterr().err


def test_a_slide_without_truth_is_named(slides, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    bad = [*map(str, slides), "--truth", str(tmp_path / "empty"), "-o", str(tmp_path / "m"), "-q"]
    assert run_command_line(["train", *bad]) == 65
    assert "s0" in capsys.readouterr().err


def test_no_slide_is_in_two_splits_and_each_split_has_tumour() -> None:
    slides = [Path(f"{n}.tif") for n in range(17)]
    tumor = [n % 3 != 0 for n in range(17)]
    split = split_slides(slides, tumor, seed=1)
    assert sorted(slide for part in split.values() for slide in part) == sorted(slides)
    for kind, share in ((Split.TRAIN, 0.6), (Split.VALIDATION, 0.2), (Split.TEST, 0.2)):
        with_tumor = sum(tumor[slides.index(slide)] for slide in split[kind])
        assert with_tumor == round(share * sum(tumor)) or kind is Split.TRAIN
        assert with_tumor >= 1
    assert split_slides(slides, tumor, seed=1) == split
    assert split_slides(slides, tumor, seed=2) != split


def test_two_slides_with_tumour_are_too_few() -> None:
    with pytest.raises(UsageError, match="one each"):
        split_slides([Path("a"), Path("b"), Path("c")], [True, True, False], seed=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_can_be_learned_is_learned(precision, tmp_path) -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(48) % 2 == 0
    pixels = rng.integers(0, 60, (48, 32, 32, 3)).astype(np.uint8) + np.where(positive, 150, 60)[
        :, None, None, None
    ].astype(np.uint8)
    tiles = LabelledTiles(pixels, positive)
    network = new_network(0)
    settings = FitSettings(epochs=12, batch_size=8, learning_rate=1e-3, precision=precision)
    done = fit(network, tiles, tiles, settings, UnitPool(), FitPlace(tmp_path, "level0", 0, {}))
    assert done.rows[done.best_epoch]["validation_accuracy"] == 1.0
    assert ((score(network, tiles, UnitPool()) >= 0.5) == positive).all()
    assert done.rows[-1]["loss"] < done.rows[0]["loss"]


def test_training_sends_nothing_and_leaves_nothing_and_names_no_folder_of_the_user(slides, tmp_path) -> None:
    package = tmp_path / "secret-ward" / "package"
    package.parent.mkdir()
    assert_nothing(left_by(words(slides, package, "--epochs", "1"), tmp_path / "watched"))
    for path in package.iterdir():
        for folder in ("secret-ward", str(slides[0].parent), str(REPOSITORY)):
            assert folder.encode() not in path.read_bytes(), path
    card = (package / "README.md").read_text()
    assert "pyramidai train s0.tif s1.tif s2.tif s3.tif --truth" in card


ORIGINS = "slide,patient,centre\ns0,a,north\ns1,b,south\ns2,c,north\ns3,d,east\n"


def test_each_centre_is_left_out_once_and_no_slide_of_it_is_trained_on(slides, tmp_path, capsys) -> None:
    table, out = tmp_path / "origins.csv", tmp_path / "crossed"
    table.write_text(ORIGINS)
    options = ["--leave-centre-out", "--origin", str(table), "--epochs", "1", "--learning-rate", "0.001"]
    assert run_command_line(words(slides, out, *options)) == 0
    said = capsys.readouterr().out
    rows = {line.split("|")[1].strip(): line for line in said.splitlines() if line.startswith("| ")}
    accuracies = []
    for centre, names in {"east": {"s3"}, "north": {"s0", "s2"}, "south": {"s1"}}.items():
        folder = out / f"centre-{centre}"
        assert load_package(folder).n_levels == 1
        card = (folder / "README.md").read_text()
        split = dict(re.findall(r"^- (train|validation|test): (.*)$", card, re.M))
        assert {name.removesuffix(".tif") for name in split["test"].split(", ")} == names
        assert sorted(", ".join(split.values()).split(", ")) == [f"s{n}.tif" for n in range(4)]
        accuracies.append(float(re.search(r"(\d\.\d{3}) \(\d+\)", rows[folder.name])[1]))
    mean, spread = (float(rows[name].split("|")[2]) for name in ("mean", "standard deviation"))
    assert mean == pytest.approx(np.mean(accuracies), abs=0.001)
    assert spread == pytest.approx(np.std(accuracies, ddof=1), abs=0.001)
    assert all(line in (out / "README.md").read_text() for line in rows.values())
    assert (out / "log.csv").read_text().splitlines()[1].startswith("centre-east,0,1,")
    assert (out / "curves.html").is_file()
    assert len(list((tmp_path / "crossed.work/tiles").glob("*.npz"))) == 4, "tiles of a slide are drawn once"


def test_slides_of_no_known_centre_are_named(slides, tmp_path, capsys) -> None:
    assert run_command_line(words(slides, tmp_path / "m", "--leave-centre-out")) == 64
    said = "nobody has said of which centre s0.tif, s1.tif, s2.tif, s3.tif are; give --origin"
    assert said in capsys.readouterr().err


def test_a_folder_that_no_training_has_made_is_never_replaced(slides, tmp_path, capsys) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("dear")
    assert run_command_line(words(slides, tmp_path / "mine", "--overwrite")) == 73
    assert "holds thesis.txt, which no training has made" in capsys.readouterr().err
    assert (tmp_path / "mine/thesis.txt").read_text() == "dear"


def test_a_class_without_tiles_is_said_with_what_to_do(slides, tmp_path, capsys) -> None:
    assert run_command_line(words(slides, tmp_path / "m", "--min-share", "1", "--base-mpp", "1.5")) == 65
    assert "level 0: none of the" in capsys.readouterr().err
