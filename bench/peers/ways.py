"""Ways to classify the tiles of a slide: ours, and each peer's own; all answer with probabilities by corner."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import h5py
import numpy as np

from bench.peers.cost import Cost, run_command
from bench.peers.environments import python_of
from bench.speed.startup_rank import NOTES

REPOSITORY = Path(__file__).resolve().parents[2]
TILE_PEERS = ("wsinfer", "lazyslide", "tiatoolbox", "trident", "monai")
BATCH = 32
"""Tiles a call of the peers' networks: WSInfer's own number."""
_REFERENCE = ("--mode", "reference")


@dataclass(frozen=True)
class Ours:
    """One way of ours: which of the packages, and options of `run`."""

    in_integers: bool
    options: tuple[str, ...]
    needs: tuple[str, ...] = ("onnxruntime",)


FLOAT32 = "ours, float32"
OURS = {
    FLOAT32: Ours(False, (*_REFERENCE, "--backend", "onnxruntime")),
    "ours, int8": Ours(True, (*_REFERENCE, "--backend", "onnxruntime")),
    "ours, int8, OpenVINO": Ours(True, (*_REFERENCE, "--backend", "openvino"), ("openvino",)),
    "ours, all": Ours(True, ("--backend", "openvino"), ("openvino",)),
}
"""The last with the pyramid: tiles of all its levels are counted, those of level 0 compared."""


@dataclass(frozen=True)
class Setting:
    """What all ways are given.

    Attributes
    ----------
    slide
        The slide.
    work
        Folder of the bench.
    model, integers
        Packages of ours, in float32 and in 8-bit integers.
    cores
        Ranks of ours; torch takes as many threads by itself.
    workers
        Processes that read, for peers that leave the number to their caller.
    spacing, side
        Of the network: micrometres a pixel, pixels.
    mpp
        Of a slide that does not say; such a slide most peers refuse.
    """

    slide: Path
    work: Path
    model: Path
    integers: Path | None
    cores: int
    workers: int
    spacing: float
    side: int
    mpp: float | None = None

    @property
    def folder(self) -> Path:
        """Of this slide's runs."""
        return self.work / "runs" / self.slide.stem

    @property
    def tiles(self) -> Path:
        """Corners of the tiles that everybody is given."""
        return self.folder / "tiles.npz"

    @property
    def network(self) -> Path:
        """TorchScript of level 0."""
        return self.work / "network.pt"

    def answer(self, way: str) -> Path:
        """Where a way's last answer is kept."""
        return self.folder / f"{way.replace(', ', '-').replace(' ', '-')}.npz"

    def package(self, way: str) -> Path:
        """That a way of ours takes."""
        if not OURS[way].in_integers:
            return self.model
        if self.integers is None:
            raise ValueError(f"{way} was asked for without a package in integers")
        return self.integers


@dataclass(frozen=True)
class Run:
    """One run of one way.

    Attributes
    ----------
    turn
        Counted from 1; ways are compared within one.
    start_s
        From launch to the first call of a network; of ranks, the last one's.
    tiles
        Classified, those of all levels.
    answer
        ``.npz`` with ``corners`` and ``probabilities`` of level 0, below the folder of the slide's runs.
    """

    way: str
    turn: int
    slide: str
    cores: int
    wall_s: float
    cpu_s: float
    start_s: float
    peak_mb: float
    tiles: int
    answer: str
    versions: dict[str, str] = field(default_factory=dict)


def run_way(way: str, setting: Setting, turn: int) -> Run:
    """Run a way once on the tiles that are given.

    Raises
    ------
    CommandFailed
        It did not go well.
    """
    setting.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=setting.work) as scratch:
        if way in OURS:
            return _run_ours(way, setting, turn, Path(scratch))
        return _run_peer(way, setting, turn, Path(scratch))


def _run_ours(way: str, setting: Setting, turn: int, scratch: Path) -> Run:
    ours = OURS[way]
    result, notes = scratch / "result.h5", scratch / "notes"
    words = ["mpirun", "-n", str(setting.cores), sys.executable, "-m", "bench.speed.startup_rank", "run"]
    words += [str(setting.slide), "--model", str(setting.package(way)), *ours.options]
    words += ["-o", str(result), "-q", *(["--mpp", str(setting.mpp)] if setting.mpp else [])]
    environment = {
        NOTES: str(notes),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }
    cost, _ = run_command(words, folder=REPOSITORY, environment=environment)
    corners, probabilities, tiles = read_result(result)
    firsts = [time_s for path in scratch.glob("notes.*") for name, time_s, _ in json.loads(path.read_text())]
    versions = {name: importlib.metadata.version(name) for name in ours.needs}
    return _kept(way, setting, turn, cost, max(firsts), corners, probabilities, tiles, versions)


def read_result(result: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Corners and probabilities of level 0, and the number of tiles of all levels."""
    with h5py.File(result) as file:
        level = file["levels/0"]
        corners, probabilities = level["coords"][:].astype(np.int64), level["probability"][:, -1]
        tiles = sum(len(file[f"levels/{name}/index"]) for name in file["levels"])
    return corners, probabilities, tiles


def ask_peer(way: str, setting: Setting, scratch: Path, tiles: Path | None) -> tuple[Cost, dict, dict[str, np.ndarray]]:
    """Ask a peer's script; its cost, its last line and its arrays (see `bench.peers.tiles.protocol`).

    Raises
    ------
    CommandFailed
        It did not go well.
    """
    empty = scratch / "folder"
    empty.mkdir()
    request = {
        "slide": str(setting.slide.resolve()),
        "network": str(setting.network.resolve()),
        "answer": str(scratch / "answer.npz"),
        "folder": str(empty),
        "tiles": None if tiles is None else str(tiles.resolve()),
        "spacing": setting.spacing,
        "side": setting.side,
        "workers": setting.workers,
        "batch": BATCH,
    }
    asked = scratch / "request.json"
    asked.write_text(json.dumps(request))
    words = [python_of(setting.work, way).absolute(), "-m", f"bench.peers.tiles.with_{way}", asked]
    # nothing is to be taken from this environment, nor from the home
    environment = {"PYTHONPATH": str(REPOSITORY), "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": ""}
    environment |= {"HF_HUB_OFFLINE": "1", "HOME": str(empty)}
    cost, said = run_command(words, folder=REPOSITORY, environment=environment)
    with np.load(request["answer"]) as arrays:
        found = dict(arrays)
    return cost, json.loads(said.splitlines()[-1]), found


def _run_peer(way: str, setting: Setting, turn: int, scratch: Path) -> Run:
    cost, said, found = ask_peer(way, setting, scratch, setting.tiles)
    corners, probabilities = found["corners"], found["probabilities"]
    return _kept(way, setting, turn, cost, said["first_s"], corners, probabilities, len(corners), said["versions"])


def _kept(
    way: str,
    setting: Setting,
    turn: int,
    cost: Cost,
    first_s: float,
    corners: np.ndarray,
    probabilities: np.ndarray,
    tiles: int,
    versions: dict[str, str],
) -> Run:
    answer = setting.answer(way)
    np.savez(answer, corners=corners, probabilities=probabilities)
    return Run(
        way,
        turn,
        setting.slide.name,
        setting.cores,
        cost.wall_s,
        cost.cpu_s,
        first_s - cost.launched_s,
        cost.peak_mb,
        tiles,
        answer.name,
        versions,
    )


def append(run: Run, file: Path) -> None:
    """Add a run to a file of runs, one line of JSON each."""
    with file.open("a") as lines:
        lines.write(json.dumps(asdict(run)) + "\n")


def read_runs(file: Path) -> list[Run]:
    """All runs of a file."""
    return [Run(**json.loads(line)) for line in file.read_text().splitlines()]
