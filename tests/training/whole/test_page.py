"""The commands of the page on networks that see whole images, as a reader would give them."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("torch")

from pyramidai_mpi.models.segmentation_package import load_segmentation_package
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.documented import run_commands


@pytest.mark.mpi
@pytest.mark.slow
def test_a_network_is_trained_and_used(tmp_path) -> None:
    page = (REPOSITORY / "docs/whole-images.md").read_text(encoding="utf-8")
    commands = re.findall(
        r"^<!-- ci: (?:train-whole|tissue-network|own-network) -->\n```bash\n(.*?)^```", page, re.DOTALL | re.MULTILINE
    )
    assert len(commands) == 3
    (tmp_path / "folder").mkdir()
    (tmp_path / "bin").mkdir()
    done = run_commands("".join(commands), tmp_path / "folder", tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    assert load_segmentation_package(tmp_path / "folder/tissue").text.mpp == pytest.approx(1.0)
    assert (tmp_path / "folder/s4_mask.tif").is_file()
    assert load_segmentation_package(tmp_path / "folder/tissue8").text.mpp == pytest.approx(8.0)
    assert load_segmentation_package(tmp_path / "folder/small").text.halo >= 3
