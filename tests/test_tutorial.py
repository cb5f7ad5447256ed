"""The tutorial's commands, all of them and in order, do what it says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import h5py
import pytest
import yaml

from pyramidai_mpi.testing.launch import REPOSITORY
from pyramidai_mpi.truth.labels import label_result
from tests.documented import blocks_of, run_commands

if TYPE_CHECKING:
    from pathlib import Path

TUTORIAL = REPOSITORY / "docs" / "tuning.md"


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every command was run."""
    folder = tmp_path_factory.mktemp("tutorial")
    blocks = blocks_of(TUTORIAL)
    assert len(blocks) == 8
    done = run_commands("\n".join(blocks), folder, tmp_path_factory.mktemp("bin"))
    assert done.returncode == 0
    (folder / "said.txt").write_text(done.stdout)
    return folder


pytestmark = [pytest.mark.mpi, pytest.mark.slow]


def test_the_chosen_thresholds_keep_the_objective_on_the_training_slides(followed: Path) -> None:
    description = yaml.safe_load((followed / "tuned" / "model.yaml").read_text())
    thresholds = [entry["threshold"] for entry in description["levels"]]
    trees = [label_result(path, followed / "slides") for path in sorted((followed / "results").glob("*.h5"))]
    rates = [tree.cost_of(thresholds).retention for tree in trees]
    assert len(rates) == 5
    assert sum(rates) / 5 >= 0.95 - 1e-9
    assert sum(rates) / 5 == pytest.approx(description["tuning"]["training_retention"], abs=1e-6)
    assert {slide["name"] for slide in description["tuning"]["slides"]} == {f"case{n}.tif" for n in range(1, 6)}


def test_the_new_slides_were_run_with_them(followed: Path) -> None:
    chosen = [entry["threshold"] for entry in yaml.safe_load((followed / "tuned" / "model.yaml").read_text())["levels"]]
    for name in ("case6.h5", "case7.h5"):
        with h5py.File(followed / "new" / name) as file:
            assert [float(file[f"levels/{n}"].attrs["threshold"]) for n in range(3)] == chosen
            assert "tuning:" in file["model"].attrs["yaml"]


def test_what_it_cost_and_what_is_promised_is_said(followed: Path) -> None:
    said = (followed / "said.txt").read_text()
    assert re.search(r"positive retention +0\.\d+ \[", said)
    assert re.search(r"speedup in tiles +\d", said)
    assert "expected miss rate at most 0.3 on a new slide with tumour" in said
    assert yaml.safe_load((followed / "careful" / "model.yaml").read_text())["tuning"]["guaranteed_miss_rate"] == 0.3
    assert len(list((followed / "figures").iterdir())) == 6


def test_a_band_was_chosen_that_keeps_the_maps(followed: Path) -> None:
    description = yaml.safe_load((followed / "stepped" / "model.yaml").read_text())
    assert description["decision"]["type"] == "band"
    assert description["decision"]["strides"] == [56, 112]
    assert description["tuning"]["band"]["training_iou"] >= 0.98 - 1e-6
    assert re.search(r"chosen: low \S+, high \S+, step \S+, strides 56,112", (followed / "said.txt").read_text())
    with h5py.File(followed / "case6.h5") as file:
        facts = file["execution"].attrs
        assert json.loads(facts["band"]) == [description["decision"][name] for name in ("low", "high", "step")]
        assert facts["strides"] == "56 112"


def test_the_readme_leads_to_the_tutorial() -> None:
    assert "(docs/tuning.md)" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
