"""``pyramidai models build``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.check import check_network
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.shipped import default_model
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path


def test_a_random_package_is_whole_and_labelled(tmp_path: Path, capsys) -> None:
    pytest.importorskip("torch", reason="building networks needs torch: pip install pyramidai_mpi[train]")
    folder = tmp_path / "m"
    assert run_command_line(["models", "build", "inception_v3", "--random", "--levels", "1", "-o", str(folder)]) == 0
    assert f"{folder}: benchmark model with random weights: scores mean nothing" in capsys.readouterr().out
    package = load_package(folder)
    check_network(package.levels[0], package)
    assert yaml.safe_load((folder / "model.yaml").read_text())["weights"] == "random"
    assert run_command_line(["info", str(folder)]) == 0
    assert "use        benchmark model with random weights: scores mean nothing" in capsys.readouterr().out
    before = (folder / "level0.onnx").stat()
    assert run_command_line(["models", "build", "inception_v3", "--random", "-o", str(folder)]) == 73
    assert (folder / "level0.onnx").stat() == before


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="neither weights nor random"),
        pytest.param(["--random", "--weights", "x.pt"], id="both"),
        pytest.param(["--weights", "x.pt", "--weights", "y.pt"], id="two files for three levels"),
    ],
)
def test_options_that_do_not_go_together_are_a_usage_error(options: list[str], tmp_path: Path) -> None:
    assert run_command_line(["models", "build", "inception_v3", "-o", str(tmp_path / "m"), *options]) == 64
    assert not (tmp_path / "m").exists()


def test_the_list_has_the_shipped_model_and_those_of_a_folder(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_package(tmp_path / "mine" / "b")
    write_package(tmp_path / "mine" / "a", n_levels=2)
    (tmp_path / "mine" / "no model").mkdir()
    assert run_command_line(["models", "list"]) == 0
    alone = capsys.readouterr().out
    assert alone.splitlines()[0] == "small (shipped)"
    assert "not for diagnosis" in alone
    assert "normal, tumor; positive: tumor" in alone
    assert "0.25, 0.5, 1 µm/px, tiles of 224 x 224 px" in alone
    assert f"folder      {default_model()}" in alone
    assert run_command_line(["models", "list", "mine", "mine/a", str(default_model().parent)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(alone)
    headings = [line for line in out.splitlines() if not line.startswith(" ")]
    assert headings == ["small (shipped)", "small-valid (shipped)", "a", "b"]
    assert "0.25, 0.5 µm/px" in out


def test_in_the_list_a_broken_package_is_told_among_the_others(tmp_path: Path, capsys) -> None:
    write_package(tmp_path / "b")
    (write_package(tmp_path / "a") / "model.yaml").write_text("name: a\n")
    assert run_command_line(["models", "list", str(tmp_path)]) == 65
    out, err = capsys.readouterr()
    assert err == ""
    assert "a\n  unreadable" in out
    assert "b\n  classes" in out
    for folder in ("gone", "a/deeper"):
        assert run_command_line(["models", "list", str(tmp_path / folder)]) == 65
        assert "neither holds nor is a model package" in capsys.readouterr().err


def test_a_shipped_model_is_described_by_its_name(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command_line(["info", "small"]) == 0
    assert capsys.readouterr().out.startswith("model      small\n")
    (tmp_path / "small").write_text("no model")
    assert run_command_line(["info", "small"]) == 65
