"""Hosts that share no files, on one machine and without root: ranks that are started in folders of their own.

Slides, model and output are named by relative paths, so each rank has its own under the same name.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.cli.digest import digest_of_file
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import REPOSITORY, mpirun, started
from tests.end_to_end.test_damage import tissue_slide
from tests.faults.conftest import THRESHOLDS
from tests.packages import write_package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.testing.launch import Job

SLOWLY = REPOSITORY / "tests" / "faults" / "run_slowly.py"
_BEGIN = ["-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"]


@dataclass(frozen=True)
class Apart:
    """Folders that stand for hosts; in each, what is named by the command lies below `place`."""

    folder: Path

    def host(self, number: int) -> Path:
        """Folder of a host."""
        return self.folder / f"host{number}"

    def add(self, made: Path, *numbers: int) -> None:
        """Let hosts have all that is in a folder."""
        for number in numbers:
            shutil.copytree(made, self.host(number), dirs_exist_ok=True)

    def command(
        self, hosts: Sequence[int], words: Sequence[str | os.PathLike[str]], program: Sequence[str] = ()
    ) -> list[str]:
        """What follows ``mpirun -n 1 python``: a rank on each of these hosts, in their order."""
        started: list[str] = []
        for host in hosts:
            python = [sys.executable, *(program or ["-m", "pyramidai_mpi"]), *map(os.fspath, words)]
            variables = [f"TMPDIR={self.scratch(host)}"]
            started += [":", "-n", "1", "env", "-C", str(self.host(host)), *variables, *python]
        return [*_BEGIN, *started[3:]]

    def scratch(self, number: int) -> Path:
        """A host's folder for temporary files."""
        scratch = self.folder / f"scratch{number}"
        scratch.mkdir(exist_ok=True)
        return scratch

    def run(
        self,
        hosts: Sequence[int],
        *words: str | os.PathLike[str],
        program: Sequence[str] = (),
        launcher_args: Sequence[str] = (),
    ) -> Job:
        """Run the command, a rank on each of these hosts."""
        return mpirun(1, self.command(hosts, words, program), launcher_args=launcher_args)

    def digest(self, name: str, host: int = 0) -> str:
        """Of a result on a host."""
        return digest_of_file(self.host(host) / name)

    def names(self, host: int, below: str = ".") -> set[str]:
        """What lies in a folder of a host."""
        return {path.name for path in (self.host(host) / below).iterdir()}


def kill_once_all_have_done_some(
    apart: Apart, hosts: Sequence[int], journals: str, *words: str | os.PathLike[str], seconds: float = 0.05
) -> None:
    """Start the command with tiles that take their time, and kill all ranks once each host has a file of journals.

    Parameters
    ----------
    journals
        Pattern of these files below a host's folder.
    seconds
        What a tile takes.
    """
    begun = apart.command(hosts, [str(seconds), *words], [str(SLOWLY)])
    with started(1, begun) as job:
        assert job.wait_until(
            lambda: all(any(path.stat().st_size > 1000 for path in apart.host(host).glob(journals)) for host in hosts)
        ), job.output()


def slides_and_model(folder: Path, size: tuple[int, int], *, with_features: bool = False) -> Path:
    """Make what each host is to have: two slides, b.tif of this size (w, h), a model and a place for results."""
    (folder / "slides").mkdir()
    tissue_slide(folder / "slides" / "a.tif")
    write_slide(SynthSpec(*size, seed=2), folder / "slides" / "b.tif")
    write_package(folder / "model", side=32, gain=0.05, thresholds=THRESHOLDS, with_features=with_features)
    (folder / "out").mkdir()
    return folder
