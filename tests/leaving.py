"""What a command leaves in the user's folders, and whom it tries to reach."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.testing.launch import REPOSITORY, launcher

if TYPE_CHECKING:
    from pathlib import Path

# connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.1")}, 16) and the like
_ADDRESS = re.compile(
    r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?(?:inet_addr\(\"|inet_pton\(AF_INET6, \")([^\"]+)\""
)
_NAME_SERVICE = re.compile(r"sun_path=\"([^\"]*resolve[^\"]*)\"")
_DNS = "53"
_CALLS = "trace=connect,sendto,sendmsg,sendmmsg"


@dataclass(frozen=True)
class Left:
    """A command that has ended well.

    Attributes
    ----------
    files
        All that lies in the home and in the folder of temporary files, both empty before.
    reached
        Addresses beyond this machine, and of name servers, that were tried; None without strace.
    """

    files: list[str]
    reached: list[str] | None


def left_by(words: list[object], folder: Path, *, ranks: int | None = None, code: str | None = None) -> Left:
    """Run the program, or some lines of Python, with an empty home, and see what it leaves."""
    homes = [folder / "home", folder / "temporary"]
    for home in homes:
        home.mkdir(parents=True)
    traces = folder / "traces"
    traces.mkdir()
    unset = {"MPLCONFIGDIR", "ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "HF_HOME", "TORCH_HOME", "CI"}
    environment = {name: value for name, value in os.environ.items() if name not in unset and name[:4] != "XDG_"}
    environment |= {
        "HOME": str(homes[0]),
        "TMPDIR": str(homes[1]),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    strace = shutil.which("strace")
    watched = [] if strace is None else [strace, "-f", "-ff", "-qq", "-e", _CALLS, "-o", traces / "of"]
    start = [] if ranks is None else [launcher(), "-n", str(ranks)]
    program = ["-m", "pyramidai_mpi"] if code is None else ["-c", code]
    command = [os.fspath(word) for word in [*start, *watched, sys.executable, *program, *map(str, words)]]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, command
    files = sorted(str(path.relative_to(folder)) for home in homes for path in home.rglob("*"))
    if strace is None:
        return Left(files, None)
    texts = [path.read_text(errors="replace") for path in traces.iterdir()]
    assert texts, "strace has seen no process"
    return Left(files, sorted({address for text in texts for address in reached_in(text)}))


def reached_in(trace: str) -> list[str]:
    """Addresses beyond this machine, and of name servers, in what strace has written."""
    found = [f"{host}:{port}" for port, host in _ADDRESS.findall(trace) if port == _DNS or not _is_here(host)]
    return found + _NAME_SERVICE.findall(trace)


def _is_here(address: str) -> bool:
    return address.startswith("127.") or address in {"::1", "0.0.0.0", "::"}


def assert_nothing(left: Left) -> None:
    """Nothing is left, and nobody was tried; the latter where strace is installed."""
    assert left.files == []
    assert left.reached in ([], None)
