"""The command in a process that is ready for it: a child of one that has loaded all modules, as loading takes longest.

A child is what a process of its own would be: arguments, environment, current folder, streams, exit code. Only that
modules were loaded before, instead of when they are asked for. `tests/ask_ready.py` asks for one from a shell.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pyramidai_mpi.testing.launch import REPOSITORY, kill
from tests.ask_ready import ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_BYTES = 1 << 20
_BY_PYTEST = "PYTEST_CURRENT_TEST"
_AS_IT_BEGAN = {name: value for name, value in os.environ.items() if name != _BY_PYTEST}
_kept = ExitStack()
_places: list[Path] = []


def finished(words: list[str], cwd: Path | None, timeout: float) -> tuple[int, str, str] | None:
    """Exit code, stdout and stderr of ``python -m pyramidai_mpi *words``; None where a process of its own is needed.

    That is where a test has changed the environment, of which libraries read some as they are loaded.

    Raises
    ------
    subprocess.TimeoutExpired
        It did not end in time, and was killed.
    """
    environment = {name: value for name, value in os.environ.items() if name != _BY_PYTEST}
    if environment != _AS_IT_BEGAN:
        return None
    if not _places:
        _places.append(_kept.enter_context(ready(environment | {"PYTHONPATH": str(REPOSITORY)})))
        atexit.register(_kept.close)
    environment["PYTHONPATH"] = str(REPOSITORY)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open() as nothing:
        streams = [one.fileno() for one in (nothing, out, err)]
        with ask(str(_places[0]), words, os.fspath(cwd or Path.cwd()), environment, streams) as asked:
            child = int(asked.recv(100))
            asked.settimeout(timeout)
            try:
                code = int(asked.recv(100))
            except TimeoutError:
                kill(child)
                raise subprocess.TimeoutExpired(words, timeout) from None
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode())
    return code, said[0], said[1]


@contextmanager
def ready(environment: Mapping[str, str]) -> Iterator[Path]:
    """Start a process that is ready for commands, with its `environment`; the socket on which it takes them."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "ready"
        words = [sys.executable, "-m", "tests.ready", place]
        with subprocess.Popen(
            words, env=dict(environment), cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            try:
                yield place
            finally:
                server.stdin.close()


def _serve(place: str) -> None:
    """A child for each who asks, until stdin is closed."""
    from pyramidai_mpi.cli.main import prepare_environment

    prepare_environment()  # as the command does before numpy is loaded
    import h5py  # noqa: F401
    import tifffile  # noqa: F401

    from pyramidai_mpi.run import cells, extraction, networks, opening, part_files, run  # noqa: F401
    from pyramidai_mpi.slides import segmentation  # noqa: F401

    assert "mpi4py.MPI" not in sys.modules  # each child starts MPI for itself
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who keep a child
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(place)
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            asked, _ = listener.accept()
            with asked:
                message, streams, _, _ = socket.recv_fds(asked, _MOST_BYTES, 3)
                if not os.fork():
                    listener.close()
                    _keep(asked, json.loads(message), streams)
                for stream in streams:
                    os.close(stream)


def _keep(asked: socket.socket, what: dict[str, object], streams: list[int]) -> NoReturn:
    """Run a command in a child, and tell who has asked its number and then its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if not child:
        asked.close()
        _run(what, streams)
    asked.send(str(child).encode())
    _, status = os.waitpid(child, 0)
    asked.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(what: dict[str, object], streams: list[int]) -> NoReturn:
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
        os.close(stream)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):  # of another kind of file than before
        opened = open(descriptor, "w" if descriptor else "r", closefd=False)  # noqa: SIM115 - for the life of the child
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[attr-defined]
    os.environ.clear()
    os.environ.update(what["environment"])  # type: ignore[call-overload]
    os.chdir(str(what["cwd"]))
    words = list(what["words"])  # type: ignore[call-overload]
    sys.argv = [str(REPOSITORY / "pyramidai_mpi" / "__main__.py"), *words]
    sys.orig_argv = [sys.executable, "-m", "pyramidai_mpi", *words]
    from pyramidai_mpi.cli.main import main

    try:
        main()
    except SystemExit as end:
        leave(int(end.code or 0))
    leave(0)


def leave(code: int) -> NoReturn:
    """End a child that was forked: at an ordinary end libraries look in vain for the threads that a fork loses."""
    sys.stdout.flush()
    sys.stderr.flush()
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()  # or MPICH leaves a megabyte in /dev/shm
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
