"""A virtual environment for each peer, with pinned versions, and what it takes on the disk.

    python -m bench.peers.environments --work WORK [--peer NAME]...

Makes WORK/environments/NAME for each peer named, or for all. The peers that take the torch of `TORCH` share one copy of
it through a .pth file; the megabytes said are those of each peer alone, with all that it needs. Versions that pip chose
are in WORK/environments/NAME.txt. An environment that is there is left alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.command_line import command_line
from bench.figures import print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TORCH = "torch"
"""The environment of this torch; a CUDA build, as PyPI has no other that torchvision loads beside."""


@dataclass(frozen=True)
class Peer:
    """One peer.

    Attributes
    ----------
    requirements
        What pip is asked for, the peer itself first.
    shares_torch
        Whether it takes the torch of `TORCH`; else pip gives it one of its own, if any.
    """

    requirements: tuple[str, ...]
    shares_torch: bool = False

    @property
    def distribution(self) -> str:
        """Name of what it is installed as."""
        return self.requirements[0].partition("==")[0]


PEERS = {
    TORCH: Peer(("torch==2.14.1", "torchvision==0.29.1")),
    # 0.6.1 imports what zarr 3 and tiffslide 3 have no more
    "wsinfer": Peer(("wsinfer==0.6.1", "zarr<3", "tiffslide<3"), True),
    "lazyslide": Peer(("lazyslide==0.13.0",), True),
    "monai": Peer(("monai==1.6.1", "openslide-python==1.4.7", "openslide-bin==4.0.1.2"), True),
    # TRIDENT, as its authors put it on PyPI; it imports requests and does not ask for it
    "trident": Peer(("trident-test==0.1.1", "requests"), True),
    # its bounds on torch and torchvision leave out those of the others
    "tiatoolbox": Peer(("tiatoolbox==2.1.3",)),
    "mpipool": Peer(("mpi4py==4.1.2", "mpich==5.0.2", "numpy")),
    "dask": Peer(("distributed==2026.8.0", "numpy")),
    "loky": Peer(("loky==3.7.0", "numpy")),
    "ray": Peer(("ray==2.60.0", "numpy")),
}

_SIZES = """
import importlib.metadata, json, sys
from packaging.requirements import Requirement
found, wanted = {}, [Requirement(word) for word in sys.argv[1:]]
while wanted:
    need = wanted.pop()
    extras = need.extras or {""}
    try:
        here = importlib.metadata.distribution(need.name)
    except importlib.metadata.PackageNotFoundError:
        continue  # what another platform needs
    key = here.metadata["Name"].lower()
    if key not in found:
        files = [path.locate() for path in here.files or () if path.suffix != ".pyc"]
        found[key] = [here.version, sum(path.stat().st_size for path in files if path.is_file()), set()]
    new = extras - found[key][2]
    found[key][2] |= extras
    for text in here.requires or () if new else ():
        needed = Requirement(text)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in new):
            wanted.append(needed)
print(json.dumps({name: row[:2] for name, row in found.items()}))
"""
"""Version and bytes of what is asked for and all that it needs; run by the environment's own Python."""


_OURS = "pyramidai-mpi[mpi,openvino]"
_TORCHS = ("torch", "triton", "nvidia", "cuda")


def python_of(work: Path, name: str) -> Path:
    """The Python of a peer's environment."""
    return work / "environments" / name / "bin" / "python"


def make(work: Path, name: str) -> None:
    """Make one environment, unless it is there.

    Raises
    ------
    SystemExit
        pip failed: what it said is shown.
    """
    peer, folder = PEERS[name], work / "environments"
    frozen = folder / f"{name}.txt"
    if frozen.exists():
        return
    if peer.shares_torch:
        make(work, TORCH)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"making {folder / name}: {' '.join(peer.requirements)}", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", folder / name])
    if peer.shares_torch:
        site = Path("lib") / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        (folder / name / site / "torch_of_another.pth").write_text(f"{folder.resolve() / TORCH / site}\n")
    python = python_of(work, name)
    _run([python, "-m", "pip", "install", "-q", "packaging", *peer.requirements])
    frozen.write_text(_run([python, "-m", "pip", "freeze"]))


def sizes(python: Path, requirements: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Version and bytes on the disk, compiled .pyc files left out, of all that requirements bring, by name."""
    said = _run([python, "-c", _SIZES, *requirements])
    return {one: (version, size) for one, (version, size) in json.loads(said).items()}


def _run(words: list[str | Path]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words[:6]))} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def main() -> None:
    """Make them, and say what they take."""
    parser = command_line(__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--peer", action="append", choices=[*PEERS], help="may be given several times")
    options = parser.parse_args()
    names = options.peer or [*PEERS]
    for name in names:
        make(options.work, name)

    def rows() -> Iterator[list[object]]:
        for name in names:
            peer = PEERS[name]
            yield _row(name, peer.distribution, sizes(python_of(options.work, name), peer.requirements))
        yield _row("ours", _OURS.partition("[")[0], sizes(Path(sys.executable), [_OURS]))

    print_table(["peer", "version", "distributions", "MB", "besides torch and CUDA"], rows())


def _row(name: str, distribution: str, found: dict[str, tuple[str, int]]) -> list[object]:
    besides = sum(size for one, (_, size) in found.items() if not one.startswith(_TORCHS))
    megabytes = sum(size for _, size in found.values()) / 1e6
    return [name, found[distribution.lower()][0], len(found), f"{megabytes:.0f}", f"{besides / 1e6:.0f}"]


if __name__ == "__main__":
    main()
