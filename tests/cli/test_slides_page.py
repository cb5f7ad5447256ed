"""The commands of the page on labels of whole slides, as a reader would give them."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("torch")

from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.documented import run_commands


@pytest.mark.mpi
@pytest.mark.slow
def test_a_network_is_trained_on_labels_and_used(tmp_path) -> None:
    page = (REPOSITORY / "docs/slide-labels.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^<!-- ci: train-slides -->\n```bash\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "folder").mkdir()
    (tmp_path / "bin").mkdir()
    done = run_commands(commands, tmp_path / "folder", tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    package = load_package(tmp_path / "folder/first")
    assert package.classes == package.aggregator.classes == ("normal", "tumor")
    assert "AUC of tumor" in done.stdout
    assert re.search(r"^prediction tumor 0\.\d+ \(binary, abmil of \d+ tiles\)$", done.stdout, re.MULTILINE)
    assert (tmp_path / "folder/second/aggregator.onnx").is_file()
    assert not (tmp_path / "folder/second/model.yaml").exists()
