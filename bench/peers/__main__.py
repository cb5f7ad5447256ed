"""Programs that classify the tiles of a slide, beside each other: the same slide, tiles and weights.

    python -m bench.peers SLIDE --work WORK --model DIR --integers DIR --state FILE [--peer NAME]... [--chosen]

The packages and the weights of level 0 as torch keeps them are what `bench.paper.paper_network` made. Makes what is
missing below WORK: an environment a peer (`bench.peers.environments`), the network as TorchScript, the tiles (those
of our float32 run). Then ours and the peers run in turn, A B C A B C, each from launch to exit, on the same tiles.
Runs are added to WORK/runs/SLIDE.jsonl, so that repetitions may come in several goes; the tables are of all runs in
it. Ratios are to the first way of ours, within a turn. A peer that fails is said, and left out. --chosen also asks
every peer which tiles it would take by itself; --tables only prints.

What is one's own choice is the peer's: WSInfer takes as many reading processes as there are cores and at most 8,
TRIDENT three quarters of the cores, the others `--workers`; all have batches of 32.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.command_line import Options, command_line
from bench.figures import print_table
from bench.peers import environments
from bench.peers.cost import CommandFailed
from bench.peers.tables import AGREEMENT_HEADS, COST_HEADS, agreement, agreement_row, cost_rows
from bench.peers.ways import FLOAT32, OURS, TILE_PEERS, Setting, append, ask_peer, read_runs, run_way
from pyramidai_mpi.models.package import load_package


def main() -> None:
    """Make, measure and print."""
    parser = command_line(__doc__)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="package in float32")
    parser.add_argument("--integers", type=Path, help="the same in 8-bit integers, for the ways of ours that take it")
    parser.add_argument("--state", type=Path, required=True, help="level0.state.pt, or weights alone")
    parser.add_argument("--peer", action="append", choices=TILE_PEERS, help="all unless given")
    parser.add_argument("--ours", action="append", choices=[*OURS], metavar="WAY", help=f"of {'; '.join(OURS)}")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="reading processes of peers that leave it to the caller")
    parser.add_argument("--mpp", type=float, help="micrometres a pixel of a slide that does not say")
    parser.add_argument("--chosen", action="store_true", help="also the tiles that peers choose")
    parser.add_argument("--tables", action="store_true", help="print the tables of the runs that there are")
    options = parser.parse_args()
    package = load_package(options.model)
    setting = Setting(
        options.slide,
        options.work,
        options.model,
        options.integers,
        options.cores,
        options.workers,
        package.base_mpp,
        package.tile_size,
        options.mpp,
    )
    peers = options.peer or list(TILE_PEERS)
    file = options.work / "runs" / f"{options.slide.stem}.jsonl"
    if not options.tables:
        ours = options.ours or [way for way in OURS if options.integers or not OURS[way].in_integers]
        if not options.integers and any(OURS[way].in_integers for way in ours):
            parser.error("--ours in 8-bit integers needs --integers")
        measure(options, setting, [ours[0], *peers, *ours[1:]], file)
    runs = read_runs(file)
    print_table(COST_HEADS, cost_rows(runs, runs[0].way))
    print()
    print_table(AGREEMENT_HEADS, agreement_rows(setting, list(dict.fromkeys(run.way for run in runs))))
    if options.chosen:
        print()
        print_table(("peer", "tiles it chooses", "of ours"), chosen_rows(setting, peers))


def measure(options: Options, setting: Setting, ways: list[str], file: Path) -> None:
    """Run ways in turn."""
    for way in ways:
        if way in environments.PEERS:
            environments.make(setting.work, way)
    setting.folder.mkdir(parents=True, exist_ok=True)
    if not setting.network.exists():
        from bench.speed.wsinfer_like import load_network

        load_network(options.state).save(str(setting.network))
    if not setting.tiles.exists():
        first = run_way(FLOAT32, setting, 0)
        with np.load(setting.folder / first.answer) as arrays:
            np.savez(setting.tiles, corners=arrays["corners"])
    before = max((run.turn for run in read_runs(file)), default=0) if file.exists() else 0
    for turn in range(before + 1, before + 1 + options.repetitions):
        for way in ways:
            try:
                run = run_way(way, setting, turn)
            except CommandFailed as failure:
                print(f"{way} failed: {failure}", file=sys.stderr, flush=True)
                continue
            append(run, file)
            print(f"{way}: {run.wall_s:.1f} s, {run.tiles} tiles, start {run.start_s:.1f} s", flush=True)


def agreement_rows(setting: Setting, ways: list[str]) -> list[list[object]]:
    """Each way beside the first peer that ran, or beside our float32: what of its positives is kept."""
    thresholds = {
        way: load_package(setting.package(way if way in OURS else FLOAT32)).levels[0].threshold for way in ways
    }
    answers = {}
    for way in ways:
        with np.load(setting.answer(way)) as arrays:
            answers[way] = arrays["corners"], arrays["probabilities"]
    base = next((way for way in ways if way not in OURS), FLOAT32)
    return [
        agreement_row(f"{way} beside {base}", agreement(answers[base], answers[way], thresholds[base], thresholds[way]))
        for way in ways
        if way != base
    ]


def chosen_rows(setting: Setting, peers: list[str]) -> list[list[object]]:
    """How many tiles each peer takes when it finds the tissue itself."""
    with np.load(setting.tiles) as arrays:
        ours = len(arrays["corners"])
    rows: list[list[object]] = [[FLOAT32, ours, "1.00"]]
    for peer in peers:
        with tempfile.TemporaryDirectory(dir=setting.work) as scratch:
            try:
                _, _, found = ask_peer(peer, setting, Path(scratch), None)
            except CommandFailed as failure:
                rows.append([peer, f"none: {str(failure).strip().splitlines()[-1]}", ""])
                continue
        rows.append([peer, len(found["corners"]), f"{len(found['corners']) / ours:.2f}"])
    return rows


if __name__ == "__main__":
    main()
