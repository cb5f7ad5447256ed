"""``pyramidai simulate`` on results made without a run."""

from __future__ import annotations

import json

import pytest

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.cli.simulate import parse_workers
from tests.results import result_of
from tests.simulate.test_stored import stored


@pytest.fixture
def call(capfd, tmp_path, monkeypatch):
    """Run ``simulate`` in a folder with two results; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.h5", "b.h5"):
        stored(tmp_path / name)

    def run(*words: object) -> tuple[int, str, str]:
        code = run_command_line(["simulate", *(str(word) for word in words)])
        out, err = capfd.readouterr()
        return int(code), out, err

    return run


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("12", [12]),
        ("1..8", [1, 2, 4, 8]),
        ("1..12", [1, 2, 4, 8, 12]),
        ("3..3", [3]),
        ("3..5", [3, 5]),
        ("4..17/4", [4, 8, 12, 16]),
        ("2, 1..4,2", [1, 2, 4]),
        ("1..1024", [2**n for n in range(11)]),
    ],
)
def test_numbers_of_workers_are_doubled_or_stepped(text, numbers):
    assert parse_workers(text) == numbers


def test_a_table_its_figures_and_its_curves(call, tmp_path):
    code, out, err = call("a.h5", "--workers", "1,4", "--seconds", "0.5", "--json", "s.json", "--plot", "s")
    assert (code, err) == (0, "")
    tiles = result_of().tree.n_tiles
    assert f"1 slide: {tiles} tiles" in out
    assert [line for line in out.splitlines() if line.startswith("roots dealt")] == [
        f"roots dealt {dealing}: tiles of the busiest worker, time" for dealing in ("round-robin", "random", "block")
    ]
    rows = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert len(rows) == 2 * (5 * 3 + 1)
    alone = next(row for row in rows if row["workers"] == 1 and row["balancing"] == "steal-half")
    assert alone["busiest_tiles"] == tiles
    computed = round(alone["makespan_s"] / 0.5, 3)  # four at a time, so that the last of a level may lack three
    assert computed % 4 == 0
    assert tiles <= computed <= tiles + 3 * len(result_of().tree.levels)
    reference = next(row for row in rows if row["workers"] == 1 and row["balancing"] == "reference")
    assert reference["busiest_tiles"] == result_of().n_reference_tiles
    assert {path.name for path in tmp_path.glob("s.*")} == {"s.json", "s.png", "s.svg"}


def test_several_results_are_one_pool_unless_told_apart(call):
    tiles = result_of().tree.n_tiles
    words = ["a.h5", "b.h5", "--workers", "1", "--seconds", "0.5", "--balancing", "steal-half"]
    code, out, _ = call(*words)
    assert code == 0
    assert f"2 slides, as one pool of work: {2 * tiles} tiles" in out
    assert "roots dealt slides" in out
    code, out, _ = call(*words, "--apart", "--dealing", "block")
    assert code == 0
    assert f"2 slides, one after the other: {2 * tiles} tiles" in out
    assert out.splitlines()[-2].split()[1] == str(tiles)


def test_a_plan_says_how_many_ranks(call):
    tiles = 2 * result_of().tree.n_tiles
    limit_s = tiles * 0.5 / 3.5  # three ranks cannot, and a few more can
    code, out, _ = call("a.h5", "b.h5", "--seconds", "0.5", "--plan", limit_s / 3600)
    assert code == 0
    assert "roots dealt" not in out
    answer = next(line for line in out.splitlines() if "ranks are done in" in line)
    assert 4 <= int(answer.split()[0]) <= 6
    assert "fewer than 4 could not" in answer


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["a.h5", "--workers", "0"], 64, "--workers 0"),
        (["a.h5", "--workers", "8..4"], 64, "--workers 8..4"),
        (["a.h5", "--workers", "1..4/0"], 64, "1..4/0"),
        (["a.h5", "--workers", "many"], 64, "many"),
        (["a.h5", "--seconds", "0.3;0.2"], 64, "0.3;0.2"),
        (["a.h5", "--seconds", "-1"], 64, "seconds"),
        (["a.h5", "--batch-size", "0"], 64, "batches of 0"),
        (["a.h5", "--bandwidth", "0"], 64, "bandwidth"),
        (["a.h5", "--plan", "0"], 64, "--plan 0"),
        (["a.h5", "--plan", "1", "--most", "0"], 64, "--most 0"),
        (["a.h5", "--dealing", "cards"], 64, "cards"),
        ([], 64, "RESULT.h5"),
        (["missing.h5"], 65, "missing.h5"),
        (["a.h5", "--json", "b.h5"], 73, "b.h5"),
        (["a.h5", "--json", "a.h5", "--overwrite"], 64, "a.h5"),
        (["a.h5", "--plot", "nowhere/s"], 74, "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_said_in_one_line(call, words, code, part):
    found, out, err = call(*words)
    assert found == code
    assert out == ""
    assert err.startswith("pyramidai: error: ")
    assert err.count("\n") == 1
    assert part in err
