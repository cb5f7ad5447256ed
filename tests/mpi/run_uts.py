"""Search the tree S4 on all ranks and print what was found, as JSON on rank 0."""

from __future__ import annotations

import argparse
import faulthandler
import json
import threading
from dataclasses import asdict

from mpi4py import MPI

from pyramidai_mpi.sched import Policy, deal_round_robin, run
from tests.sched.uts import S4, TreeSearch, s4_roots

faulthandler.dump_traceback_later(100, exit=True)
parser = argparse.ArgumentParser()
parser.add_argument("--policy", type=Policy, nargs="+", default=[Policy.STEAL_HALF], help="each for all runs")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--by-depth", action="store_true")
parser.add_argument("--deal", choices=["round-robin", "one-rank", "few", "none"], default="round-robin")
parser.add_argument("--seconds", type=float, default=0.0)
parser.add_argument("--runs", type=int, default=1)
options = parser.parse_args()

comm = MPI.COMM_WORLD
for policy in [policy for policy in options.policy for _ in range(options.runs)]:
    roots = s4_roots()
    expected = 0
    if options.deal == "few":  # two roots of some size, both on the last rank
        fruitful = [i for i, root in enumerate(roots) if S4.children_of(root["state"].tobytes(), 1)]
        roots = roots[fruitful[:2]]
        alone = TreeSearch()
        queue = [roots]
        while queue:
            children = alone.expand(queue.pop().copy())
            queue += [children] if len(children) else []
        expected = alone.nodes
    if options.deal == "round-robin":
        roots = deal_round_robin(roots, comm.rank, comm.size)
    elif options.deal == "none" or comm.rank != comm.size - 1:
        roots = roots[:0]
    search = TreeSearch(options.batch_size, options.by_depth, options.seconds)
    outcome = run(comm, search, roots, policy, options.seed)
    mine = {
        "expected": expected,
        "policy": policy.value,
        "nodes": search.nodes,
        "leaves": search.found.leaves,
        "depth": search.found.depth,
        "sum": search.found.checksum,
        "largest_batch": search.largest_batch,
        "threads": threading.active_count(),
        "stopped": outcome.stopped,
        "unfinished": len(outcome.unfinished),
        "reports": [[r.done, r.known, r.idle_ranks, r.ranks] for r in search.reports],
        "stats": asdict(outcome.stats),
    }
    everyone = comm.gather(mine)
    if everyone is not None:
        print(json.dumps(everyone), flush=True)
