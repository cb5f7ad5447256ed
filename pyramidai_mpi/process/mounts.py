"""On what kind of file system a file lies."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_LOCAL = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"})
_MOUNTS = Path("/proc/self/mountinfo")


def is_on_local_disk(descriptor: int) -> bool:
    """Whether an open file lies on this machine's own disk or memory, so that nobody elsewhere can take it away.

    A mapped file that is deleted from another host, or whose server is lost, kills the process that touches it. What
    the system does not tell counts as far away.
    """
    device = os.fstat(descriptor).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):
        for line in _MOUNTS.read_text(errors="replace").splitlines():
            fields, _, rest = line.partition(" - ")
            if fields.split()[2:3] == [number]:
                return rest.split()[:1][0] in _LOCAL
    return False
