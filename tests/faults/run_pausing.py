"""The real command, which stops at a call: run_pausing.py MODULE,DOTTED.NAME FILE STALE-SECONDS ARGUMENTS...

At the first call of the function it makes FILE, and goes on once FILE.go is there; without a function ("-") it goes on
at once. Locks are stale after so many seconds, and renewed ten times as often.
"""

from __future__ import annotations

import importlib
import sys
import time
from functools import reduce
from pathlib import Path
from typing import Any

from pyramidai_mpi.store.files import lock

lock.STALE_AFTER_S = float(sys.argv[3])
lock.HEARTBEAT_S = lock._POLL_S = lock.STALE_AFTER_S / 10

from pyramidai_mpi.cli.main import main  # noqa: E402 - takes the constants over


def plant(module_name: str, dotted: str, mark: Path) -> None:
    *owners, name = dotted.split(".")
    owner = reduce(getattr, owners, importlib.import_module(module_name))
    real = getattr(owner, name)

    def pausing(*arguments: Any, **options: Any) -> Any:
        if not mark.exists():
            mark.touch()
            while not mark.with_name(f"{mark.name}.go").exists():
                time.sleep(0.01)
        return real(*arguments, **options)

    setattr(owner, name, pausing)


if sys.argv[1] != "-":
    plant(*sys.argv[1].split(","), Path(sys.argv[2]))
main(sys.argv[4:])
