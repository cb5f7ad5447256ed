"""How many processor cores this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores for one rank each: those that the process is bound to, without their second threads, within its quota.

    Containers and SLURM grant less than the machine has, by binding or by a quota of processor time (cgroups 1 and 2).
    """
    processors = os.sched_getaffinity(0)
    cores = {_core_of(processor) for processor in processors}
    quota = _quota()
    return len(cores) if quota is None else max(1, min(len(cores), int(quota)))


def _core_of(processor: int) -> str:
    """The processors of one core, as the system lists them; those of one core give the same text."""
    for name in ("core_cpus_list", "thread_siblings_list"):  # before and after Linux 5.3, which has both
        with suppress(OSError):
            return (_CPUS / f"cpu{processor}" / "topology" / name).read_text().strip()
    return str(processor)


def _quota() -> float | None:
    """Seconds of processor time a second that the process's groups grant, None for any."""
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            roots = [_CGROUPS, _CGROUPS / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [_CGROUPS / controllers, _CGROUPS / "cpu"]
        else:
            continue
        # a container may see its own group as the root, whatever it is called outside: each group on the way counts
        groups = [Path(path.lstrip("/")), *Path(path.lstrip("/")).parents]
        quotas += [quota for root in roots for group in groups if (quota := _quota_of(root / group)) is not None]
    return min(quotas, default=None)


def _quota_of(group: Path) -> float | None:
    """Quota of one group, in cores; None where it has none."""
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota_us = int((group / "cpu.cfs_quota_us").read_text())
        return quota_us / int((group / "cpu.cfs_period_us").read_text()) if quota_us > 0 else None
    return None
