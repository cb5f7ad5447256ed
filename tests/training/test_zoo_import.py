"""``pyramidai models import`` of TorchScript and state dicts: what comes out answers as torch does."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import openslide
import pytest
import yaml
from PIL import Image

torch = pytest.importorskip("torch", reason="importing networks needs torch: pip install pyramidai_mpi[train]")

from pyramidai_mpi.base.errors import InputError  # noqa: E402
from pyramidai_mpi.cli.main import run_command_line  # noqa: E402
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine  # noqa: E402
from pyramidai_mpi.models.package import FloatInput, load_package  # noqa: E402
from pyramidai_mpi.models.write import PackageText  # noqa: E402
from pyramidai_mpi.training.convert import paper_package  # noqa: E402
from pyramidai_mpi.training.convert.checked_package import Agreement, place_package  # noqa: E402
from pyramidai_mpi.training.convert.torchscript import convert_here, convert_torchscript  # noqa: E402
from tests.end_to_end.conftest import pyramidai  # noqa: E402
from tests.end_to_end.test_damage import tissue_slide  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

MEAN, STD = (0.7238, 0.5716, 0.6779), (0.112, 0.1459, 0.1089)
NORMALIZE = {"name": "Normalize", "arguments": {"mean": list(MEAN), "std": list(STD)}}
# keys and values as in the zoo's breast-tumor-resnet34.tcga-brca, with smaller patches
CONFIG: dict[str, Any] = {
    "spec_version": "1.0",
    "architecture": "tiny",
    "num_classes": 2,
    "class_names": ["Other", "Tumor"],
    "patch_size_pixels": 96,
    "spacing_um_px": 0.25,
    "transform": [{"name": "Resize", "arguments": {"size": 48}}, {"name": "ToTensor"}, NORMALIZE],
}


def tiny(n_logits: int = 2) -> torch.nn.Module:
    """A network whose batch norm does something and whose answers differ from tile to tile."""
    torch.manual_seed(1)
    norm = torch.nn.BatchNorm2d(8)
    norm.running_mean.normal_(0, 1)
    norm.running_var.uniform_(0.5, 2)
    layers = [torch.nn.Conv2d(3, 8, 5, 2), norm, torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(8, n_logits)).eval()


class OnItsOwn(torch.nn.Module):
    """Answers by chance, so no two runs agree."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 5 * torch.rand((x.shape[0], 2))


def save(network: torch.nn.Module, path: Path, side: int = 48, *, script: bool = False) -> Path:
    made = torch.jit.script(network) if script else torch.jit.trace(network, torch.zeros((1, 3, side, side)))
    torch.jit.save(made, path)
    return path


def zoo_folder(folder: Path, network: torch.nn.Module | None = None, *, script: bool = False, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    save(network or tiny(), folder / "torchscript_model.pt", script=script)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def by_torch(network: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Softmax of what the network makes of uint8 (n, side, side, 3), prepared as ToTensor and Normalize do."""
    planes = torch.tensor(pixels.transpose(0, 3, 1, 2)).double() / 255
    planes = (planes - torch.tensor(MEAN).double().view(3, 1, 1)) / torch.tensor(STD).double().view(3, 1, 1)
    with torch.no_grad():
        return network(planes.float()).softmax(dim=1).numpy()


def imported(*words: object) -> int:
    return run_command_line(["models", "import", *map(str, words)])


@pytest.mark.parametrize(("patch", "scripted"), [(48, False), (96, True)], ids=["as it is", "resized"])
def test_a_run_with_the_package_gives_what_torch_gives_on_the_zoos_patches(patch, scripted, tmp_path) -> None:
    slide, package = tissue_slide(tmp_path / "s.tif"), tmp_path / "package"
    changes = {"patch_size_pixels": patch} | ({} if scripted else {"transform": CONFIG["transform"][1:]})
    assert imported(zoo_folder(tmp_path / "zoo", script=scripted, **changes), "-o", package) == 0
    assert load_package(package).base_mpp == 0.25 * patch / 48
    assert pyramidai(slide, "--model", package, "-o", tmp_path / "out.h5").returncode == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file["levels"]) == ["0"]
        assert list(file["model"].attrs["classes"]) == ["Other", "Tumor"]
        assert file["model"].attrs["positive_class"] == "Tumor"
        level = file["levels/0"]
        corners, found = level["coords"][::5], level["probability"][::5]
    with openslide.OpenSlide(slide) as handle:
        regions = [handle.read_region(tuple(corner), 0, (patch, patch)).convert("RGB") for corner in corners.tolist()]
    pixels = np.stack([np.asarray(region.resize((48, 48), Image.Resampling.BILINEAR)) for region in regions])
    wanted = by_torch(tiny(), pixels)
    assert np.ptp(wanted[:, 1]) > 0.05  # else agreement would mean little
    np.testing.assert_allclose(found, wanted, atol=1e-5 if patch == 48 else 5e-3)


def test_the_command_says_what_it_made_and_how_well_it_agrees(tmp_path, capsys) -> None:
    assert imported(zoo_folder(tmp_path / "zoo"), "-o", tmp_path / "package", "--threshold", "0.3") == 0
    said = capsys.readouterr().out
    assert "48 px at 0.5 µm/px, positive: Tumor" in said
    assert "greatest difference from torch" in said
    document = yaml.safe_load((tmp_path / "package/model.yaml").read_text())
    assert document["input"] == {"layout": "NHWC", "dtype": "uint8"}
    assert [level["threshold"] for level in document["levels"]] == [0.3]
    assert "weights" not in document
    assert "torchscript_model.pt, sha256 " in document["description"]
    slide = tissue_slide(tmp_path / "s.tif")
    words = ["--calibrate", str(slide), "--tiles", "8", "--max-changed", "1", "-o", str(tmp_path / "int8")]
    assert run_command_line(["models", "quantize", str(tmp_path / "package"), *words]) == 0
    assert run_command_line(["info", str(tmp_path / "int8")]) == 0


def test_one_class_is_a_sigmoid_and_its_complement(tmp_path) -> None:
    zoo = zoo_folder(tmp_path / "zoo", tiny(1), num_classes=1, class_names=["tumor"])
    assert imported(zoo, "-o", tmp_path / "package") == 0
    package = load_package(tmp_path / "package")
    assert (package.classes, package.positive_class) == (("not tumor", "tumor"), 1)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), np.uint8)
    planes = (torch.tensor(pixels).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        logit = tiny(1)(planes.permute(0, 3, 1, 2))[:, 0].numpy()
    found, _ = OnnxEngine(package.levels[0], package).predict(pixels)
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-logit)), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_of_three_classes_the_positive_one_has_to_be_named(tmp_path, capsys) -> None:
    names = ["grade3", "grade4+5", "benign"]  # the zoo's prostate network
    zoo = zoo_folder(tmp_path / "zoo", tiny(3), num_classes=3, class_names=names)
    assert imported(zoo, "-o", tmp_path / "package") == 64
    assert "--positive-class" in capsys.readouterr().err
    assert imported(zoo, "-o", tmp_path / "package", "--positive-class", "grade9") == 64
    assert imported(zoo, "-o", tmp_path / "package", "--positive-class", "grade4+5") == 0
    assert load_package(tmp_path / "package").positive_class == 1


def no_config(zoo: Path) -> None:
    (zoo / "config.json").unlink()


def wrong_transform(zoo: Path) -> None:
    (zoo / "config.json").write_text(json.dumps(CONFIG | {"transform": [{"name": "CenterCrop"}, *CONFIG["transform"]]}))


def several_files(zoo: Path) -> None:
    (zoo / "torchscript_model.pt").rename(zoo / "a.pt")
    (zoo / "b.pt").write_bytes(b"")


def no_file(zoo: Path) -> None:
    (zoo / "torchscript_model.pt").unlink()


def cut_short(zoo: Path) -> None:
    whole = (zoo / "torchscript_model.pt").read_bytes()
    (zoo / "torchscript_model.pt").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(no_config, "holds no config.json", id="no config"),
        pytest.param(wrong_transform, "transform is .*CenterCrop", id="wrong transform"),
        pytest.param(several_files, r"2 files \*.pt: a.pt, b.pt", id="several files"),
        pytest.param(no_file, r"0 files \*.pt", id="no file"),
        pytest.param(cut_short, "torchscript_model.pt: no TorchScript file", id="cut short"),
    ],
)
def test_a_folder_that_cannot_be_imported_is_one_line_and_leaves_nothing(spoil, said, tmp_path, capsys) -> None:
    spoil(zoo_folder(tmp_path / "in" / "zoo"))
    out = tmp_path / "out"
    out.mkdir()
    assert imported(tmp_path / "in" / "zoo", "-o", out / "package") == 65
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(said, error)
    assert list(out.iterdir()) == []


def test_an_output_that_exists_is_left_alone(tmp_path) -> None:
    zoo = zoo_folder(tmp_path / "zoo")
    (tmp_path / "package").mkdir()
    assert imported(zoo, "-o", tmp_path / "package") == 73
    assert list((tmp_path / "package").iterdir()) == []


FIXED_SIDE = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))


@pytest.mark.parametrize(
    ("network", "side", "said"),
    [
        pytest.param(tiny(3), 48, r"gives \(2, 3\) .* 2 classes", id="more values than classes"),
        pytest.param(FIXED_SIDE, 32, "does not take tiles of 48 x 48", id="made for another size"),
    ],
)
def test_a_network_that_does_not_fit_its_config_is_named(network, side, said, tmp_path) -> None:
    path = save(network, tmp_path / "n.pt", side)
    with pytest.raises(InputError, match=said):
        convert_here(path, 48, 2, FloatInput(MEAN, STD))


class Endless(torch.nn.Module):
    """Never answers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        i = 0
        while i >= 0:
            i = (i + 1) % 1000
        return x[:, :2, 0, 0]


def test_a_network_that_never_answers_is_ended_with_one_line(tmp_path) -> None:
    path = save(Endless(), tmp_path / "n.pt", script=True)
    with pytest.raises(InputError, match=r"n\.pt: .* took more than 5 s"):
        convert_torchscript(path, 48, 2, FloatInput(MEAN, STD), tmp_path, seconds=5)


def test_a_state_dict_or_a_pickle_is_no_torchscript_and_is_not_run(tmp_path) -> None:
    torch.save(tiny().state_dict(), tmp_path / "state.pt")
    torch.save(tiny(), tmp_path / "whole.pt")
    for name in ("state.pt", "whole.pt"):
        with pytest.raises(InputError, match="no TorchScript file"):
            convert_here(tmp_path / name, 48, 2, FloatInput(MEAN, STD))


def test_a_network_that_answers_otherwise_as_onnx_is_refused_and_nothing_is_written(tmp_path) -> None:
    path = save(OnItsOwn(), tmp_path / "n.pt", script=True)
    by_chance = convert_here(path, 48, 2, FloatInput(MEAN, STD))
    text = PackageText(name="chance", description="", tile_size=48)
    with pytest.raises(InputError, match="differ by up to"):
        place_package(tmp_path / "out" / "package", text, [by_chance])
    assert list((tmp_path / "out").iterdir()) == []


def test_importing_weights_of_inception_is_what_building_does(tmp_path, monkeypatch) -> None:
    calls = []

    def record(*arguments, **options):
        calls.append((arguments, options))
        return PackageText(name="recorded", description=""), Agreement(0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(paper_package, "write_inception", record)
    (tmp_path / "state.pt").write_bytes(b"")
    words = ["-o", str(tmp_path / "m"), "--levels", "2", "--threshold", "0.4", "--seed", "7"]
    assert imported(tmp_path / "state.pt", "--arch", "inception_v3", *words) == 0
    built = ["models", "build", "inception_v3", "--weights", str(tmp_path / "state.pt"), *words]
    assert run_command_line(built) == 0
    assert len(calls) == 2
    assert calls[0] == calls[1]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["state.pt"], id="weights of which network?"),
        pytest.param(["zoo", "--classes", "a,b"], id="timm's option for a folder"),
        pytest.param(["zoo", "--levels", "2"], id="levels of a folder"),
        pytest.param(["state.pt", "--arch", "inception_v3", "--positive-class", "tumor"], id="class of inception"),
        pytest.param(["timm:resnet10t", "--base-mpp", "0.5"], id="timm without classes"),
        pytest.param(["timm:resnet10t", "--classes", "a,b"], id="timm without µm per pixel"),
    ],
)
def test_options_that_do_not_go_together_are_a_usage_error(words, tmp_path, monkeypatch) -> None:
    (tmp_path / "state.pt").write_bytes(b"")
    (tmp_path / "zoo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert imported(*words, "-o", "out") == 64
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_there_is_bad_input(tmp_path, capsys) -> None:
    assert imported(tmp_path / "nothing", "-o", tmp_path / "out") == 65
    assert "no such file or folder" in capsys.readouterr().err
