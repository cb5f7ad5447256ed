"""The tables by stride, from slides to lines, on two tiny slides."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from bench.paper.strides import ADAPTIVE, FDA, Plan, compare, write_cohort
from pyramidai_mpi.synth.polygons import CAMELYON_MPP

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan((1,), 1, 1, 640)


@pytest.fixture(scope="module")
def outlines(tmp_path_factory) -> Path:
    """Lesions of slides A to F, disks of 16 to 96 µm across, in CAMELYON16's pixels."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 8 / CAMELYON_MPP + 5000
    disks = {name: (ring - 5000) * (k + 1) + 5000 for k, name in enumerate("ABCDEF")}
    rings = {name: {"positive": [disk.tolist()], "negative": []} for name, disk in disks.items()}
    path = tmp_path_factory.mktemp("outlines") / "outlines.json"
    path.write_text(json.dumps(rings))
    return path


def area(truth: Path) -> float:
    """Of the only outline of a slide's truth, in square pixels."""
    (feature,) = json.loads(truth.read_text())["features"]
    x, y = np.array(feature["geometry"]["coordinates"][0]).T
    return abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2


def test_each_seed_has_small_and_large_lesions_and_what_is_there_is_used_again(outlines, tmp_path):
    plan = Plan((4, 9), 2, 1, 512)
    slides = write_cohort(plan, tmp_path, outlines)
    assert [slide.stem for slide in slides] == [
        "4_tumor_00", "4_tumor_01", "4_free_02", "9_tumor_00", "9_tumor_01", "9_free_02",
    ]  # fmt: skip
    areas = {slide.stem: area(slide.with_suffix(".geojson")) for slide in slides if "tumor" in slide.stem}
    assert areas["4_tumor_00"] < areas["9_tumor_00"] < areas["4_tumor_01"] < areas["9_tumor_01"]
    for slide in slides:
        if "free" in slide.stem:
            assert json.loads(slide.with_suffix(".geojson").read_text())["features"] == []
    times = [slide.stat().st_mtime_ns for slide in slides]
    assert [slide.stat().st_mtime_ns for slide in write_cohort(plan, tmp_path, outlines)] == times


@pytest.mark.mpi
def test_the_tables_hold_their_figures_and_ours(outlines, tmp_path, capsys):
    largest = tmp_path / "largest.json"
    largest.write_text(json.dumps({"F": json.loads(outlines.read_text())["F"]}))
    options = argparse.Namespace(model=None, outlines=largest, ranks=1, json=tmp_path / "f.json")
    (tmp_path / "work").mkdir()
    compare(PLAN, tmp_path / "work", options)
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    fourth, fifth = rows[2:7], rows[9:14]
    names = [*(f"stride {stride}" for stride in (16, 64, 128, 224)), ADAPTIVE]
    assert [row[0] for row in fourth] == [row[0] for row in fifth] == names
    # as printed in the paper
    assert [row[1] for row in fourth[:4]] == ["0.902", "0.902", "0.913", "0.893"]
    assert [row[2] for row in fourth[:4]] == ["0.974", "0.991", "0.981", "0.975"]
    assert [row[2] for row in fifth[:4]] == ["0.694", "0.651", "0.590", "0.547"]
    assert fourth[4][1:3] == ["-", "-"]
    figures = {(one["setting"]["map"], one["figure"]): one["value"] for one in json.loads(options.json.read_text())}
    looked = 0
    for slide in ("1_tumor_00", "1_free_01"):
        with h5py.File(tmp_path / "work/window" / f"{slide}.h5") as file:
            state = file["levels/0/state"][...]
            looked += int(np.isin(state, (1, 2)).sum())
    assert figures["stride 16", "windows"] == looked > 500
    assert figures["stride 16", "IoU"] == 1.0
    assert 0 < figures["stride 224", "windows"] < figures["stride 64", "windows"] < looked / 10
    assert figures[ADAPTIVE, "windows"] < looked
    assert fifth[1][1] == f"1/{looked / figures['stride 64', 'windows']:.3g}"
    assert set(FDA) == {16, 64, 128, 224}
    for said in ("Slides: ", "Network: ", "Places: ", "not here: the sensitivities"):
        assert said.casefold() in text.casefold()
