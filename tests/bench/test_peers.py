"""Peers beside ours: what their scripts are asked and answer, what a command cost, and the tables of it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest

from bench.peers import environments
from bench.peers.cost import CommandFailed, descendants, run_command
from bench.peers.scheduling.__main__ import measure, rows_of, sleeping_tree
from bench.peers.scheduling.tree import SleepingTree, decoded_blocks
from bench.peers.tables import agreement, agreement_row, cost_rows
from bench.peers.ways import TILE_PEERS, Run, append, read_runs
from bench.speed.footprint import brought_by
from pyramidai_mpi.testing.launch import REPOSITORY

PEERS = REPOSITORY / "bench/peers"

FAKE_PEER = """
import numpy as np
from bench.peers.tiles.protocol import serve

def choose(request):
    return [(0, 0), (request.side, 0), (0, request.side)]

def classify(request):
    corners = request.corners()
    return corners[::-1], corners[::-1].sum(axis=1) / 1000

serve(choose, classify, "numpy")
"""


@pytest.fixture
def ask(tmp_path):
    """Ask the peer above; its last line and its arrays."""
    (tmp_path / "peer.py").write_text(FAKE_PEER)
    np.savez(tmp_path / "tiles.npz", corners=np.array([(0, 0), (224, 448)]))

    def asked(tiles):
        paths = {name: str(tmp_path / name) for name in ("slide", "network", "folder")}
        request = {**paths, "answer": str(tmp_path / "answer.npz"), "tiles": tiles and str(tmp_path / tiles)}
        request |= {"spacing": 0.25, "side": 224, "workers": 2, "batch": 32}
        (tmp_path / "request.json").write_text(json.dumps(request))
        words = [sys.executable, tmp_path / "peer.py", tmp_path / "request.json"]
        _, said = run_command(words, folder=tmp_path, environment={"PYTHONPATH": str(REPOSITORY)})
        with np.load(tmp_path / "answer.npz") as arrays:
            return json.loads(said.splitlines()[-1]), dict(arrays)

    return asked


def test_a_peer_answers_the_tiles_that_it_is_given_by_their_corners(ask):
    said, arrays = ask("tiles.npz")
    assert said["versions"] == {"numpy": np.__version__}
    assert arrays["corners"].tolist() == [[224, 448], [0, 0]]
    assert arrays["probabilities"] == pytest.approx([0.672, 0], abs=1e-6)


def test_a_peer_without_tiles_chooses_and_does_not_classify(ask):
    _, arrays = ask(None)
    assert arrays.keys() == {"corners"}
    assert arrays["corners"].tolist() == [[0, 0], [224, 0], [0, 224]]


@pytest.mark.parametrize(
    "script", [*sorted((PEERS / "tiles").glob("*.py")), *sorted((PEERS / "scheduling").glob("with_*.py"))], ids=str
)
def test_no_script_of_a_peer_knows_the_program(script):
    imported = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    foreign = {name for name in imported if name.startswith("pyramidai_mpi")}
    assert bool(foreign) == (script.name == "with_ours.py")
    ours = {name for name in imported if name.startswith("bench.")}
    assert ours <= {"bench.peers.tiles.protocol", "bench.peers.scheduling.tree"}


def test_every_peer_has_a_script_and_pinned_versions():
    assert {f"with_{name}.py" for name in TILE_PEERS} == {path.name for path in (PEERS / "tiles").glob("with_*.py")}
    for peer in environments.PEERS.values():
        assert peer.requirements[0] == f"{peer.distribution}=={peer.requirements[0].split('==')[1]}"
    assert set(TILE_PEERS) < environments.PEERS.keys()


def test_a_size_is_that_of_all_that_is_brought():
    found = environments.sizes(sys.executable, ["h5py==3"])
    expected = {one.name.lower(): (one.version, one.megabytes) for one in brought_by("h5py")}
    assert found.keys() == expected.keys() >= {"h5py", "numpy"}
    for name, (version, size) in found.items():
        assert (version, size / 1e6) == pytest.approx(expected[name])


def test_a_commands_cost_is_that_of_its_children_too(tmp_path):
    child = "import time\nkept = bytearray(b'1') * 60_000_000\nstart = time.process_time()\n"
    child += "while time.process_time() < start + 0.6: pass"
    script = f"import subprocess, sys\nprint('said')\nsubprocess.run([sys.executable, '-c', {child!r}], check=True)"
    cost, said = run_command([sys.executable, "-c", script], folder=tmp_path)
    assert said == "said\n"
    assert 0.6 <= cost.cpu_s <= cost.wall_s + 0.5
    assert 60 <= cost.peak_mb < 200
    assert cost.launched_s + cost.wall_s == pytest.approx(time.time(), abs=60)


def test_a_command_that_fails_shows_what_it_said(tmp_path):
    with pytest.raises(CommandFailed, match=r"ended with 3:\n.*no network"):
        run_command(
            [sys.executable, "-c", "import sys; print('no network', file=sys.stderr); sys.exit(3)"], folder=tmp_path
        )


def test_a_command_that_does_not_end_is_ended(tmp_path):
    with pytest.raises(CommandFailed, match="ended with -9"):
        run_command([sys.executable, "-c", "import time; time.sleep(60)"], folder=tmp_path, limit_s=0.5)


def test_descendants_are_found_whatever_session_they_have():
    script = "import subprocess; subprocess.run(['setsid', '--wait', 'sleep', '30'])"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        deadline = time.monotonic() + 20
        while len(found := descendants(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.pid in found
        assert len(found) >= 2
        for pid in found:
            subprocess.run(["kill", "-9", str(pid)], check=False)


def run_of(way, turn, wall, tiles=100):
    return Run(way, turn, "slide.tif", 2, wall, 2 * wall, wall / 10, 1000.0, tiles, f"{way}.npz", {"torch": "2"})


def test_costs_are_medians_and_ratios_are_taken_within_a_turn(tmp_path):
    walls = {"ours": (10.0, 20.0, 10.0), "peer": (20.0, 30.0, 40.0)}
    for turn in (1, 2, 3):
        for way, here in walls.items():
            append(run_of(way, turn, here[turn - 1]), tmp_path / "runs.jsonl")
    runs = read_runs(tmp_path / "runs.jsonl")
    assert [asdict(run) for run in runs[:2]] == [asdict(run_of("ours", 1, 10.0)), asdict(run_of("peer", 1, 20.0))]
    ours, peer = cost_rows(runs, "ours")
    assert ours[:6] == ["ours", 3, 100, "10.0", "10.0 to 20.0", "10.0"]
    assert peer[:6] == ["peer", 3, 100, "30.0", "20.0 to 40.0", "3.3"]
    # 2, 1.5 and 4 times; of the medians it would be 3
    assert peer[-2:] == ["2.00", "1.50 to 4.00"]


def test_a_run_that_failed_shifts_no_turn():
    runs = [run_of("ours", 1, 10.0), run_of("ours", 2, 20.0), run_of("peer", 2, 60.0)]
    assert [row[-2] for row in cost_rows(runs, "ours")] == ["1.00", "3.00"]


def test_answers_are_compared_by_corner_each_with_its_own_threshold():
    corners = np.array([(0, 0), (224, 0), (448, 0), (672, 0)])
    first = corners, np.array([0.9, 0.2, 0.7, 0.8])
    second = corners[[2, 0, 1]], np.array([0.35, 0.85, np.nan])
    found = agreement(first, second, threshold=0.5, other_threshold=0.4)
    assert (found.shared, found.decisions, found.positives, found.kept) == (2, 1, 3, 1)
    assert found.largest == pytest.approx(0.35)
    assert agreement_row("two", found) == ["two", 2, "3.5e-01", 1, 3, "33.3%"]


def test_a_worker_decodes_a_block_once_and_two_decode_it_twice():
    tiles = np.zeros(4, [("level", "u1"), ("col", "<u4"), ("row", "<u4")])
    tiles["col"] = [0, 1, 0, 1]
    tiles["row"] = [0, 0, 1, 1]  # all within the block of 512 pixels at the corner
    assert decoded_blocks([tiles]) == 1
    assert decoded_blocks([tiles[:2], tiles[2:]]) == 2
    apart = tiles.copy()
    apart["col"] += 16  # 3584 pixels, 7 blocks
    assert decoded_blocks([tiles, apart]) == 1


@pytest.fixture
def tree(tmp_path):
    """A small tree over a made lesion, and its file."""
    outlines = tmp_path / "outlines.json"
    outlines.write_text(json.dumps({"one": {"positive": [[[20000, 40000], [24000, 40000], [22000, 44000]]]}}))
    made = sleeping_tree(outlines, "one", 24, 0.0004)
    made.save(tmp_path / "tree.npz")
    return made, tmp_path / "tree.npz"


def test_a_sleeping_tree_has_the_children_that_lie_under_a_tile(tree):
    made, _ = tree
    assert isinstance(made, SleepingTree)
    parents = np.flatnonzero(made.first_child >= 0)
    assert len(parents) > 5
    assert made.n_roots + 4 * len(parents) == len(made.tiles)
    for parent in parents:
        for child in made.tiles[made.children(np.array([parent]))]:
            assert child["level"] == made.tiles["level"][parent] - 1
            assert (child["col"] // 2, child["row"] // 2) == (made.tiles["col"][parent], made.tiles["row"][parent])


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("name", "workers"),
    [("pool", 1), ("pool", 3), ("steal-half", 1), ("steal-half", 2), ("steal-half", 5), ("static", 3)],
)
def test_everybody_sleeps_for_every_tile_once(tree, tmp_path, name, workers):
    made, path = tree
    dealt = measure(name, path, workers, tmp_path)
    assert (dealt.tiles, dealt.workers, dealt.processes) == (len(made.tiles), workers, workers)
    assert dealt.nominal_s == pytest.approx(made.seconds.sum())
    assert dealt.wall_s * workers >= dealt.nominal_s
    assert dealt.cpu_s >= 0  # counted in ticks of 10 ms
    assert 1 <= dealt.blocks <= workers
    (row,) = rows_of([dealt])
    assert row[:2] == [workers, "ProcessPoolExecutor" if name == "pool" else f"ours, {name}"]
    assert float(row[5]) == pytest.approx(dealt.nominal_s / dealt.wall_s / workers, abs=6e-4)
