"""``pyramidai models build``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.check import check_network
from pyramidai_mpi.models.package import load_package

if TYPE_CHECKING:
    from pathlib import Path


def test_a_random_package_is_whole_and_labelled(tmp_path: Path, capsys) -> None:
    pytest.importorskip("torch", reason="building networks needs torch: pip install pyramidai_mpi[train]")
    folder = tmp_path / "m"
    assert run_command_line(["models", "build", "inception_v3", "--random", "--levels", "1", "-o", str(folder)]) == 0
    assert "benchmarks only" in capsys.readouterr().out
    package = load_package(folder)
    check_network(package.levels[0], package)
    assert yaml.safe_load((folder / "model.yaml").read_text())["weights"] == "random"
    assert run_command_line(["info", str(folder)]) == 0
    assert "RANDOM" in capsys.readouterr().out
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
