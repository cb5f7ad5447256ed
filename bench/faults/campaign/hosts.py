"""Three hosts made of this machine, whose processes may be killed and whose cables cut (`tests/cluster/hosts`).

It takes root, iproute2 and MPICH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.faults.campaign.faults import SLOW_LINK_MS
from pyramidai_mpi.testing.launch import REPOSITORY, kill, launcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAMES = ("n1", "n2", "n3")
_SCRIPT = REPOSITORY / "tests" / "cluster" / "hosts"
_RENEWED_AFTER_S = 2400.0
"""Those that the script makes end by themselves after an hour."""


def can_be_made() -> bool:
    """Whether this process may make hosts."""
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    if os.geteuid() != 0 or any(shutil.which(name, path=search) is None for name in ("ip", "unshare", "nsenter")):
        return False
    words = [
        "unshare",
        "--net",
        "--mount",
        "sh",
        "-c",
        "ip link add probe type bridge && mount -t tmpfs probe /dev/shm",
    ]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


class Hosts:
    """Hosts n1, n2 and n3, whose state is in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def under(self) -> list[str]:
        """What runs a command on one rank of each host, from n1."""
        machines = self.folder / "machines"
        machines.write_text("".join(f"{name}:1\n" for name in NAMES))
        over_ssh = ["-launcher", "ssh", "-launcher-exec", str(self.folder / "rsh"), "-f", str(machines)]
        return [str(_SCRIPT), "on", str(self.folder), NAMES[0], launcher(), *over_ssh, "-n", str(len(NAMES))]

    def processes_on(self, name: str, pids: Iterable[int]) -> list[int]:
        """Those of some processes that run on a host."""
        own = Path(f"/proc/{self._holder(name)}/ns/net").readlink()
        found = []
        for pid in pids:
            try:
                if Path(f"/proc/{pid}/ns/net").readlink() == own:
                    found.append(pid)
            except OSError:  # gone meanwhile
                continue
        return found

    def kill_all_on(self, name: str, pids: Iterable[int]) -> None:
        """SIGKILL for those of some processes that run on a host."""
        for pid in self.processes_on(name, pids):
            kill(pid)

    def set_cable(self, name: str, state: str) -> None:
        """Take a host off the network, ``down``, or bring it back, ``up``."""
        words = ["ip", "link", "set", "eth0", state]
        holder = ["nsenter", "--target", self._holder(name), "--net"]
        subprocess.run([*holder, *words], check=True)

    def _holder(self, name: str) -> str:
        return (self.folder / f"{name}.pid").read_text().strip()


@contextmanager
def hosts_made(folder: Path, *, slow: bool) -> Iterator[Hosts]:
    """Make hosts, with slow links where wanted; they are gone at the end."""
    with ExitStack() as stack:
        stack.callback(lambda: subprocess.run([_SCRIPT, "down", folder], check=True))
        subprocess.run([_SCRIPT, "up", folder], check=True)
        if slow:
            words = [sys.executable, "-m", "bench.peers.scheduling.relay", str(folder), str(SLOW_LINK_MS)]
            relay = stack.enter_context(subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True))
            stack.callback(relay.kill)
            if relay.stdout is None or relay.stdout.readline() != "ready\n":
                raise SystemExit("no network between the hosts could be made")
        yield Hosts(folder)


class HostsOnDemand:
    """Hosts with quick and with slow links, made when first asked for, and anew before they end by themselves."""

    def __init__(self) -> None:
        self._made: dict[bool, tuple[Hosts, ExitStack, float]] = {}

    def get(self, *, slow: bool) -> Hosts:
        """Hosts that stay for the length of a trial."""
        if slow in self._made and time.monotonic() - self._made[slow][2] > _RENEWED_AFTER_S:
            self._made.pop(slow)[1].close()
        if slow not in self._made:
            stack = ExitStack()
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hosts-"))) / "state"
            hosts = stack.enter_context(hosts_made(folder, slow=slow))
            self._made[slow] = hosts, stack, time.monotonic()
        return self._made[slow][0]

    def close(self) -> None:
        """End them."""
        while self._made:
            self._made.popitem()[1][1].close()
