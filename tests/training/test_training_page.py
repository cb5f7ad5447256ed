"""The page on training, followed as it stands there."""

from __future__ import annotations

import re

import h5py
import pytest

pytest.importorskip("torch")

from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.documented import blocks_of, run_commands

pytestmark = [pytest.mark.mpi, pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_page_leads_from_slides_to_a_network_in_use(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "bin").mkdir()
    script = "\n".join(blocks_of(REPOSITORY / "docs/training.md"))
    assert script.count(" train ") == 4
    assert run_commands(script, tmp_path / "folder", tmp_path / "bin", timeout=800).returncode == 0
    folder = tmp_path / "folder"
    assert [load_package(folder / name).n_levels for name in ("trained", "longer", "chosen")] == [2, 2, 1]
    for name, kept in (("trained", "2"), ("longer", "3")):
        assert set(re.findall(r"of (\d) \|$", (folder / name / "README.md").read_text(), re.M)) == {kept}
    first, longer = ((folder / name / "log.csv").read_text().splitlines() for name in ("trained", "longer"))
    assert set(first) < set(longer), "more epochs go on from those there are"
    choices = (folder / "chosen/README.md").read_text()
    assert "--optimizer sgd" in choices
    assert "--augment turns,stain_factor=0.05,stain_offset=0.05" in choices
    assert sorted(path.name for path in (folder / "centres").iterdir()) == [
        "README.md", "centre-east", "centre-north", "centre-south", "curves.html", "log.csv",
    ]  # fmt: skip
    with h5py.File(folder / "s1.h5") as result:
        assert result["model"].attrs["name"] == "trained"
