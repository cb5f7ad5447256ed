"""Unbalanced Tree Search on real ranks: published counts, and the same counts by two ways through each tree."""

from __future__ import annotations

import pytest

from pyramidai_mpi.testing.launch import mpirun

pytestmark = pytest.mark.mpi


def search(ranks: int, options: str) -> str:
    """What the bench prints first; it fails by itself if its searches disagree."""
    job = mpirun(ranks, ["-m", "bench.balance.uts", *options.split(), "--repetitions", "1"])
    assert job.returncode == 0
    assert not job.left_over
    return job.stdout.splitlines()[0]


@pytest.mark.slow
def test_the_tree_t1_has_its_published_size():
    found = search(2, "-t 1 -a 3 -d 10 -b 4 -r 19 --only-together")
    assert found == "4130071 nodes, 3305118 leaves, depth 10, checksum 0x1b0607dd20722ac1"


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param("-t 1 -a 3 -d 7 -b 4 -r 19", id="geometric, fixed"),
        pytest.param("-t 1 -a 0 -d 9 -b 4 -r 34", id="geometric, linear"),
        pytest.param("-t 0 -b 200 -q 0.12 -m 8 -r 7", id="binomial"),
    ],
)
def test_a_plain_loop_one_rank_and_five_ranks_find_the_same_nodes(tree):
    found = search(5, f"{tree} --batch-size 32")
    assert int(found.split()[0]) > 1000
