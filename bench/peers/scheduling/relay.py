"""A network between hosts that delays every frame: for kernels whose `tc` has no netem.

    python -m bench.peers.scheduling.relay FOLDER DELAY_MS

FOLDER is that of `tests/cluster/hosts`, whose hosts are up. Each of them gets another eth0, whose frames this process
takes, keeps for DELAY_MS and gives to the host that they are for; the cable that was there is taken out, and the
names of the hosts (FOLDER/hosts) become their addresses on the new network. Says "ready" and stays until it is ended.
Needs root.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

HOSTS = ("head", "n1", "n2", "n3")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_SET_DEVICE = 0x400454CA  # TUNSETIFF
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_FRAMES = 0x0002 | 0x1000  # IFF_TAP | IFF_NO_PI: what is no Ethernet, MPICH's network layer does not see
_LARGEST = 9000
_TARGET, _SOURCE = slice(0, 6), slice(6, 12)
"""Of a frame."""


def address(number: int) -> str:
    """Of a host on the new network."""
    return f"10.98.0.{number + 1}"


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def open_device(holder: int, number: int) -> int:
    """Make the device of one host and bring it up; the file that its packets come from and go to."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(namespace: int) -> None:
        if libc.setns(namespace, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "setns")

    enter(other)
    try:
        _ip("link set eth0 down")
        _ip("link set eth0 name cable")
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        # MPICH looks for devices by the names that this machine has
        fcntl.ioctl(device, _SET_DEVICE, struct.pack("16sH22x", b"eth0", _FRAMES))
        _ip(f"addr add {address(number)}/24 dev eth0")
        _ip(f"link set eth0 mtu {_LARGEST} up")
    finally:
        enter(own)
    os.close(own)
    os.close(other)
    return device


def relay(files: list[int], delay_s: float) -> None:
    """Hand frames on as a switch does, each `delay_s` after it came; for ever."""
    kept: list[tuple[float, int, int, bytes]] = []
    at: dict[bytes, int] = {}
    count = 0
    while True:
        wait = max(0.0, kept[0][0] - time.perf_counter()) if kept else None
        ready, _, _ = select.select(files, [], [], wait)
        now = time.perf_counter()
        for file in ready:
            try:
                while frame := os.read(file, _LARGEST + 64):
                    count += 1
                    at[frame[_SOURCE]] = file
                    heapq.heappush(kept, (now + delay_s, count, file, frame))
            except BlockingIOError:
                pass
        now = time.perf_counter()
        while kept and kept[0][0] <= now:
            _, _, came_from, frame = heapq.heappop(kept)
            known = at.get(frame[_TARGET])
            for file in files if known is None else [known]:
                if file != came_from:
                    os.write(file, frame)


def main() -> None:
    """Make the network, and be it."""
    folder, delay_ms = Path(sys.argv[1]), float(sys.argv[2])
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    files = [open_device(int((folder / f"{name}.pid").read_text()), number) for number, name in enumerate(HOSTS)]
    names = "".join(f"{address(number)} {name}\n" for number, name in enumerate(HOSTS))
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
    print("ready", flush=True)
    relay(files, delay_ms / 1000)


if __name__ == "__main__":
    main()
