"""``pyramidai models import timm:NAME``: what comes out answers as timm's own network does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="importing networks needs torch: pip install pyramidai_mpi[timm]")
# the gate, for beside a CPU build of torch `import timm` by itself fails
gate = pytest.importorskip(
    "pyramidai_mpi.training.convert.timm_network", reason="timm is an extra: pip install pyramidai_mpi[timm]"
)

import timm  # noqa: E402
import torch  # noqa: E402

from pyramidai_mpi.cli.main import run_command_line  # noqa: E402
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine  # noqa: E402
from pyramidai_mpi.models.package import load_package  # noqa: E402
from pyramidai_mpi.testing.launch import REPOSITORY  # noqa: E402
from tests.leaving import assert_nothing, left_by  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

NAME = "resnet10t"
TRANSFORMER = "vit_tiny_patch16_224"
SIDE = 64


def trained(n_logits: int, seed: int = 3) -> Any:
    """A network whose batch norms do something and whose answers differ from tile to tile."""
    torch.manual_seed(seed)
    network = timm.create_model(NAME, pretrained=False, num_classes=n_logits).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    torch.nn.init.normal_(network.get_classifier().weight, std=0.3)
    return network


def weights(network: Any, path: Path) -> Path:
    torch.save(network.state_dict(), path)
    return path


def imported(*words: object, classes: str = "normal,tumor") -> int:
    fixed = ["--classes", classes, "--base-mpp", "0.5", "--tile-size", str(SIDE)]
    return run_command_line(["models", "import", *map(str, words), *fixed])


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    rng = np.random.default_rng(0)
    colours = rng.uniform(0.1, 1, (5, 1, 1, 3))
    return (rng.integers(0, 256, (5, SIDE, SIDE, 3)) * colours).astype(np.uint8)


def planes(pixels: np.ndarray) -> torch.Tensor:
    """As ImageNet's networks are fed: mean and standard deviation of its colours, as published."""
    scaled = (pixels.astype(np.float64) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    return torch.tensor(scaled.transpose(0, 3, 1, 2)).float()


def test_each_level_gives_what_its_network_gives_features_included(tmp_path, pixels, capsys) -> None:
    networks = [trained(2, seed) for seed in (3, 4)]
    files = [weights(network, tmp_path / f"{k}.pt") for k, network in enumerate(networks)]
    words = ["--levels", "2", *(word for file in files for word in ("--weights", file))]
    assert imported(f"timm:{NAME}", *words, "-o", tmp_path / "package") == 0
    assert "greatest difference from torch" in capsys.readouterr().out
    package = load_package(tmp_path / "package")
    assert (package.tile_size, package.base_mpp, package.random_weights) == (SIDE, 0.5, False)
    assert (package.classes, package.positive_class) == (("normal", "tumor"), 1)
    for level, network in zip(package.levels, networks, strict=True):
        found, features = OnnxEngine(level, package).predict(pixels, features=True)
        with torch.no_grad():
            wanted = network(planes(pixels)).softmax(dim=1).numpy()
            pooled = network.global_pool(network.forward_features(planes(pixels))).numpy()
        assert np.ptp(wanted[:, 1]) > 0.05  # else agreement would mean little
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        np.testing.assert_allclose(features, pooled, atol=1e-3, rtol=1e-3)


def encoder_imported(*words: object, settings: tuple[str, ...] = ("img_size=32", "depth=2", "embed_dim=48")) -> int:
    given = [word for setting in settings for word in ("--timm-setting", setting)]
    fixed = ["--encoder", "--base-mpp", "0.5", *given]
    return run_command_line(["models", "import", f"timm:{TRANSFORMER}", *map(str, words), *fixed])


@pytest.mark.parametrize("with_head", [False, True])
def test_an_encoder_gives_timms_features_whether_or_not_the_file_has_a_head(with_head, tmp_path, capsys) -> None:
    torch.manual_seed(5)
    network = timm.create_model(TRANSFORMER, num_classes=3 * with_head, img_size=32, depth=2, embed_dim=48).eval()
    torch.nn.init.normal_(network.pos_embed)
    file = weights(network, tmp_path / "w.pt")
    assert encoder_imported("--weights", file, "-o", tmp_path / "p", "--tile-size", 32) == 0
    assert "encoder" in capsys.readouterr().out
    package = load_package(tmp_path / "p")
    assert (package.classes, package.base_mpp, package.intended_use) == ((), 0.5, None)
    pixels = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8)
    scaled = torch.tensor((pixels.astype(np.float64).transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5).float()
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(scaled), pre_logits=True).numpy()
    _, found = OnnxEngine(package.levels[0], package).predict(pixels, features=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_encoders_batch_is_measured_or_as_told(tmp_path, capsys) -> None:
    assert encoder_imported("--random", "-o", tmp_path / "measured", "--tile-size", 32) == 0
    assert "tiles/s of one thread" in capsys.readouterr().out
    assert load_package(tmp_path / "measured").levels[0].batch in {1, 2, 4, 8, 16}
    assert load_package(tmp_path / "measured").random_weights
    assert encoder_imported("--random", "-o", tmp_path / "told", "--tile-size", 32, "--batch", 3) == 0
    assert load_package(tmp_path / "told").levels[0].batch == 3


@pytest.mark.parametrize(
    ("words", "settings", "code", "said"),
    [
        (("--random", "--classes", "a,b"), (), 64, "no classes"),
        (("--random", "--levels", "2"), (), 64, "--levels"),
        (("--random",), ("num_classes=2",), 64, "NAME=VALUE"),
        (("--random",), ("depth",), 64, "NAME=VALUE"),
        (("--random",), ("no_such_thing=1",), 65, "cannot be made"),
        (("--weights", "missing.pt"), (), 65, "missing.pt"),
    ],
)
def test_what_does_not_fit_an_encoder_is_one_line(words, settings, code, said, tmp_path, capsys) -> None:
    assert encoder_imported(*words, "-o", tmp_path / "p", settings=settings) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "p").exists()


def test_a_batch_is_for_encoders(tmp_path, capsys) -> None:
    assert imported(f"timm:{NAME}", "--random", "-o", tmp_path / "p", "--batch", 2) == 64
    assert "--encoder" in capsys.readouterr().err


def test_one_logit_will_do_for_two_classes(tmp_path, pixels) -> None:
    network = trained(1)
    file = weights(network, tmp_path / "w.pt")
    assert imported(f"timm:{NAME}", "--weights", file, "-o", tmp_path / "package") == 0
    package = load_package(tmp_path / "package")
    found, _ = OnnxEngine(package.levels[0], package).predict(pixels)
    with torch.no_grad():
        logit = network(planes(pixels))[:, 0].numpy()
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-logit)), atol=1e-5)


def without_head(network: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}


@pytest.mark.parametrize("how", ["random", "without a head"])
def test_a_network_whose_answers_mean_nothing_says_so(how, tmp_path, capsys) -> None:
    words = ["--random"]
    if how == "without a head":
        torch.save(without_head(trained(2)), tmp_path / "body.pt")
        words = ["--weights", tmp_path / "body.pt"]
    assert imported(f"timm:{NAME}", *words, "-o", tmp_path / "package") == 0
    assert "mean nothing" in capsys.readouterr().out
    package = load_package(tmp_path / "package")
    assert package.random_weights
    assert package.name == f"{NAME}-random"


@pytest.mark.parametrize(("n_classes", "has_head"), [(5, True), (2, False)])
def test_of_fetched_weights_the_head_counts_only_where_it_has_as_many_classes(
    n_classes, has_head, tmp_path, monkeypatch
) -> None:
    file = weights(trained(5), tmp_path / "hub.pt")
    make, cfg = timm.create_model, {"file": str(file), "num_classes": 5}
    monkeypatch.setattr(timm, "create_model", lambda name, **kw: make(name, pretrained_cfg_overlay=cfg, **kw))
    found = gate.pretrained_network(NAME, n_classes)
    assert found.has_head is has_head
    torch.testing.assert_close(found.network.state_dict()["conv1.0.weight"], trained(5).state_dict()["conv1.0.weight"])


@pytest.mark.parametrize(
    ("words", "classes", "code", "said"),
    [
        pytest.param(["--weights", "five.pt"], "a,b", 65, "has 5 classes, but --classes names 2", id="other classes"),
        pytest.param(["--weights", "less.pt"], "a,b", 65, "lacks conv1.0.weight", id="a layer is gone"),
        pytest.param(["--weights", "pickle.pt"], "a,b", 65, "reads safely", id="a pickle"),
        pytest.param(["--random"], "a,a", 64, "distinct names", id="a class twice"),
        pytest.param(["--random"], "a,b,c", 64, "--positive-class", id="which is positive?"),
        pytest.param(["--random", "--weights", "five.pt"], "a,b", 64, "exclude each other", id="random and not"),
        pytest.param(["--weights", "five.pt", "--weights", "five.pt"], "a,b", 64, "2 files for 1", id="two files"),
    ],
)
def test_what_does_not_fit_is_one_line(words, classes, code, said, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = trained(5).state_dict()
    torch.save(state, "five.pt")
    torch.save({name: value for name, value in trained(2).state_dict().items() if name != "conv1.0.weight"}, "less.pt")
    torch.save(trained(2), "pickle.pt")
    assert imported(f"timm:{NAME}", *words, "-o", "out", classes=classes) == code
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert said in error
    assert not (tmp_path / "out").exists()


def test_a_network_that_takes_other_tiles_or_is_unknown_is_named(tmp_path, capsys) -> None:
    assert imported("timm:vit_tiny_patch16_224", "--random", "-o", tmp_path / "out") == 65
    assert "does not take tiles of 64 x 64 pixels (it was made for 224)" in capsys.readouterr().err
    assert imported("timm:nothing_of_the_kind", "--random", "-o", tmp_path / "out") == 64
    assert "no network 'nothing_of_the_kind'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_that_cannot_be_fetched_are_one_line(tmp_path) -> None:
    environment = dict(os.environ) | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    words = ["models", "import", f"timm:{NAME}", "--classes", "a,b", "--base-mpp", "0.5", "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "pyramidai_mpi", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 65
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be fetched" in done.stderr
    assert "--weights FILE" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_import_with_weights_at_hand_sends_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    kept = weights(trained(2), tmp_path / "weights.pt")
    words = ["models", "import", f"timm:{NAME}", "--weights", kept, "--classes", "normal,tumor", "--base-mpp", "0.5"]
    made = [*words, "--tile-size", SIDE, "-o", tmp_path / "package"]
    assert_nothing(left_by(made, tmp_path / "watched"))
    for path in (tmp_path / "package").iterdir():
        for folder in (tmp_path, REPOSITORY):
            assert str(folder).encode() not in path.read_bytes(), path
