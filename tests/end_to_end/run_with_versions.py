"""The real command where other libraries are installed: run_with_versions.py VERSIONS full|good ARGUMENTS...

VERSIONS is JSON: a version by the library's name, null for one that is not there. On a disk that is full a run does all
its work and then cannot write its result, so that its journal stays.
"""

from __future__ import annotations

import errno
import json
import sys
from typing import Any

from pyramidai_mpi.process import host

versions = host.library_versions() | json.loads(sys.argv[1])
host.library_versions = lambda: {name: one for name, one in versions.items() if one is not None}  # before its users

from pyramidai_mpi.cli.main import main  # noqa: E402
from pyramidai_mpi.run import write  # noqa: E402


def fail(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "no space left")


if sys.argv[2] == "full":
    write.finish_file = fail
main(sys.argv[3:])
