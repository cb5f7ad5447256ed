"""The command in a process that is ready for it: a child of one that has loaded all modules, as loading takes longest.

`finished` gives a command what a process of its own would: arguments, environment, current folder, streams, exit code.
Modules are loaded before instead of when they are asked for; what that matters to starts a process anew.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from pyramidai_mpi.testing.launch import REPOSITORY

_AS_IT_BEGAN = dict(os.environ)
_OF_NO_PROCESS = "PYTEST_CURRENT_TEST"
_servers: list[subprocess.Popen[str]] = []


def finished(words: list[str], cwd: Path | None, timeout: float) -> tuple[int, str, str] | None:
    """Exit code, stdout and stderr of ``python -m pyramidai_mpi *words``; None where a process of its own is needed.

    That is where a test has changed the environment, of which libraries read some as they are loaded.

    Raises
    ------
    subprocess.TimeoutExpired
        It did not end in time.
    """
    environment = {name: value for name, value in os.environ.items() if name != _OF_NO_PROCESS}
    if environment != {name: value for name, value in _AS_IT_BEGAN.items() if name != _OF_NO_PROCESS}:
        return None
    if not _servers:
        _servers.append(_start())
        atexit.register(_stop)
    server = _servers[0]
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        asked = {"words": words, "cwd": os.fspath(cwd or Path.cwd()), "folder": folder, "timeout": timeout}
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        out, err = ((Path(folder) / name).read_text() for name in ("out", "err"))
    if code is None:
        raise subprocess.TimeoutExpired(words, timeout, out, err)
    return code, out, err


def _start() -> subprocess.Popen[str]:
    environment = _AS_IT_BEGAN | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.ready"],
        env=environment,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _stop() -> None:
    server = _servers.pop()
    assert server.stdin is not None
    server.stdin.close()
    server.wait()


def _serve() -> None:
    """A child for each line of stdin; how it ended, as a line of stdout."""
    from pyramidai_mpi.cli.main import prepare_environment

    asked_for = dict(os.environ)
    prepare_environment()  # as the command does before numpy is loaded
    import h5py  # noqa: F401
    import tifffile  # noqa: F401

    from pyramidai_mpi.run import cells, extraction, networks, opening, part_files, run  # noqa: F401
    from pyramidai_mpi.slides import segmentation  # noqa: F401

    assert "mpi4py.MPI" not in sys.modules  # each child starts MPI for itself
    os.environ.clear()
    os.environ.update(asked_for)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(_answer(asked)), flush=True)


def _answer(asked: dict[str, object]) -> int | None:
    child = os.fork()
    if not child:
        _run(asked)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(int(float(str(asked["timeout"]))))
    _, status = os.waitpid(child, 0)
    in_time = signal.alarm(0) > 0
    return os.waitstatus_to_exitcode(status) if in_time else None


def _run(asked: dict[str, object]) -> NoReturn:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    folder, words = Path(str(asked["folder"])), list(asked["words"])  # type: ignore[call-overload]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.chdir(str(asked["cwd"]))
    sys.argv = [str(REPOSITORY / "pyramidai_mpi" / "__main__.py"), *words]
    sys.orig_argv = [sys.executable, "-m", "pyramidai_mpi", *words]
    from pyramidai_mpi.cli.main import main

    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    leave(code)


def leave(code: int) -> NoReturn:
    """End a child that was forked: at an ordinary end libraries look in vain for the threads that a fork loses."""
    sys.stdout.flush()
    sys.stderr.flush()
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()  # or MPICH leaves a megabyte in /dev/shm
    os._exit(code)


if __name__ == "__main__":
    _serve()
