"""Balance and the paper's Fig. 7 on small trees: every slide, number of ranks and method is in tables and plots."""

from __future__ import annotations

import json
import sys

import pytest

from bench.balance import balance

RING = [[20000, 40000], [24000, 40000], [22000, 44000]]
SMALL = ["--ranks", "2,1", "--roots", "24", "--seconds", "0.0001", "--repetitions", "1"]


@pytest.fixture
def figures(tmp_path, monkeypatch):
    outlines = tmp_path / "outlines.json"
    outlines.write_text(json.dumps({name: {"positive": [RING]} for name in ("tumor_003", "tumor_009", "tumor_011")}))

    def run(*options):
        files = ["--outlines", outlines, "--json", tmp_path / "found.json", "--plot", tmp_path / "plot"]
        monkeypatch.setattr(sys, "argv", ["balance", *map(str, files), *SMALL, *options])
        balance.main()
        assert all((tmp_path / f"plot.{ending}").stat().st_size > 1000 for ending in ("svg", "png"))
        return json.loads((tmp_path / "found.json").read_text())

    return run


def rows_of(output):
    """Cells of the table at the end of what was printed."""
    lines = [line for line in output.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


@pytest.mark.mpi
def test_the_papers_slides_are_timed_on_every_number_of_ranks(figures, capsys):
    found = figures("--paper")
    settings = {(f["setting"]["slide"], f["setting"]["ranks"], f["setting"]["method"]) for f in found}
    slides = ("large tumours", "several small", "negative")
    assert settings == {(s, n, m) for s in slides for n in (2, 1) for m in ("static", "steal-half")}
    heads, *rows = rows_of(capsys.readouterr().out)
    assert heads == ["slide", "ranks", "tiles", "ideal s", "static", "steal-half", "gain"]
    assert [row[:2] for row in rows] == [[slide, n] for slide in slides for n in ("2", "1")]
    tiles = {row[0]: int(row[2]) for row in rows}
    assert tiles["large tumours"] > tiles["negative"] >= 24


@pytest.mark.mpi
def test_efficiency_is_nominal_sleep_over_ranks_times_wall_time(figures, capsys):
    found = figures("--slide", "tumor_009", "--methods", "steal-half,pool-16", "--ranks", "2")
    by_name = {(f["setting"]["method"], f["figure"]): f for f in found}
    for method, workers in (("steal-half", 2), ("pool-16", 1)):
        wall = by_name[method, "wall_s"]
        efficiency = wall["setting"]["ideal_s"] / wall["value"]
        assert by_name[method, "efficiency"]["value"] == pytest.approx(efficiency, rel=0.05)
        assert by_name[method, "efficiency_per_worker"]["value"] == pytest.approx(efficiency * 2 / workers, rel=0.05)
    heads, row = rows_of(capsys.readouterr().out)
    assert heads == ["slide", "ranks", "tiles", "ideal s", "steal-half", "pool-16", "pool-16 per worker"]
    assert row[:2] == ["tumor_009", "2"]
