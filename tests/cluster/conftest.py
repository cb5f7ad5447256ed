"""Several hosts, and a SLURM cluster, made on this machine for as long as the tests run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import DEFAULT_ENVIRONMENT, REPOSITORY, TAG, Job, mpirun
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import tissue_slide
from tests.packages import write_package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).parent
COMPUTE_HOSTS = ("n1", "n2", "n3")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@cache
def mpi_library() -> str:
    """What this Python's mpi4py calls its MPI: "MPICH", "Open MPI v4" or "Open MPI v5"."""
    done = subprocess.run(
        [sys.executable, "-m", "mpi4py", "--mpi-lib-version"], capture_output=True, text=True, check=True
    )
    for name in ("MPICH", "Open MPI v4", "Open MPI v5"):
        if done.stdout.startswith(name):
            return name
    raise ValueError(f"these tests know no way to start ranks of {done.stdout!r}")


def skip_without(*programs: str) -> None:
    """Skip, and say why, unless this process may make network namespaces and has these programs."""
    if os.geteuid() != 0:
        pytest.skip("making hosts takes root")
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [program for program in programs if shutil.which(program, path=search) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (.ci/cluster installs them)")
    probe = "ip link add probe type bridge && mount -t tmpfs probe /dev/shm"
    done = subprocess.run(
        ["unshare", "--net", "--uts", "--ipc", "--mount", "sh", "-c", probe],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no permission to make network namespaces, bridges or mounts: {done.stderr.strip()}")


@dataclass(frozen=True)
class Hosts:
    """Hosts head, n1, n2 and n3 (see the script `hosts`)."""

    folder: Path
    script: Path = HERE / "hosts"

    def on(self, host: str, *command: str | os.PathLike[str]) -> None:
        """Run a command on one host."""
        subprocess.run([HERE / "hosts", "on", self.folder, host, *command], check=True)

    @contextmanager
    def another_file(self, host: str, path: Path, other: Path) -> Iterator[None]:
        """Let one host see `other` at `path`."""
        self.on(host, "mount", "--bind", other, path)
        try:
            yield
        finally:
            self.on(host, "umount", path)

    def launching(self, ranks_of: Mapping[str, int]) -> tuple[list[str], dict[str, str]]:
        """Options of mpirun, and its environment, for so many ranks on each of some hosts, in their order."""
        machines, rsh = self.folder / "machines", str(self.folder / "rsh")
        slots = ":{}" if mpi_library() == "MPICH" else " slots={}"
        machines.write_text("".join(f"{host}{slots.format(ranks)}\n" for host, ranks in ranks_of.items()))
        return {
            "MPICH": (["-launcher", "ssh", "-launcher-exec", rsh, "-f", str(machines)], {}),
            "Open MPI v4": (["--mca", "plm_rsh_agent", rsh, "--hostfile", str(machines)], {}),
            "Open MPI v5": (
                ["--bind-to", "none", "--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--hostfile", str(machines)],
                {"PRTE_MCA_plm_ssh_agent": rsh},
            ),
        }[mpi_library()]

    def pyramidai(
        self,
        *arguments: str | os.PathLike[str],
        ranks_per_host: int = 2,
        ranks_of: Mapping[str, int] | None = None,
        cwd: Path | None = None,
    ) -> Job:
        """Run the real command over n1, n2 and n3, or as many ranks of each as is said, as somebody would on n1."""
        return self.mpirun(
            ["-m", "pyramidai_mpi", *arguments], ranks_per_host=ranks_per_host, ranks_of=ranks_of, cwd=cwd
        )

    def mpirun(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        options: Sequence[str] = (),
        ranks_per_host: int = 2,
        ranks_of: Mapping[str, int] | None = None,
        cwd: Path | None = None,
        grace_s: float = 0.5,
    ) -> Job:
        """Run Python as `pyramidai` does, with further options of mpirun."""
        ranks_of = ranks_of or dict.fromkeys(COMPUTE_HOSTS, ranks_per_host)
        usual, environment = self.launching(ranks_of)
        return mpirun(
            sum(ranks_of.values()),
            arguments,
            launcher_args=[*usual, *options],
            env=environment,
            cwd=cwd,
            under=[str(HERE / "hosts"), "on", str(self.folder), "n1"],
            grace_s=grace_s,
        )


@dataclass(frozen=True)
class Slurm:
    """A cluster of three nodes (see the script `slurm`)."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str | os.PathLike[str], cwd: Path, tag: str = "") -> str:
        """Run a command of SLURM's on the login node, with all that the sbatch files leave to the site; its stdout."""
        done = subprocess.run(
            [HERE / "slurm", "on", self.folder, *command],
            cwd=cwd,
            env=self.environment | {TAG: tag},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def submit(self, *arguments: str | os.PathLike[str], cwd: Path, tag: str = "") -> str:
        """Submit a job; its number."""
        return self.run("sbatch", "--parsable", *arguments, cwd=cwd, tag=tag).strip()

    def exit_codes(self, number: str, *, cwd: Path, timeout: float = 100) -> list[int]:
        """Wait for a job; the exit codes of its array tasks, or its own."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            job = self.run("scontrol", "--oneliner", "show", "job", number, cwd=cwd)
            if all(state in {"COMPLETED", "FAILED"} for state in re.findall(r"JobState=(\w+)", job)):
                break
            time.sleep(0.2)
        print(job)
        for output in sorted(cwd.glob("*.out")):
            print(f"--- {output.name} ---\n{output.read_text()}")
        assert time.monotonic() < end, "the job did not end in time"
        return [int(code) for code in re.findall(r"ExitCode=(\d+):0", job)]


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three hosts and one to log in."""
    skip_without("ip", "unshare", "nsenter")
    folder = tmp_path_factory.mktemp("hosts")
    subprocess.run([HERE / "hosts", "up", folder], check=True)
    yield Hosts(folder)
    subprocess.run([HERE / "hosts", "down", folder], check=True)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A SLURM cluster of three nodes."""
    skip_without("ip", "unshare", "nsenter", "slurmctld", "slurmd", "sbatch", "munged")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "env" / "bin").mkdir(parents=True)
    (folder / "env" / "bin" / "activate").write_text(f"PATH='{Path(sys.executable).parent}':$PATH\n")
    environment = DEFAULT_ENVIRONMENT | dict(os.environ)
    environment |= {
        "PYTHONPATH": str(REPOSITORY),
        "PYRAMIDAI_ENVIRONMENT": str(folder / "env"),
        "OMP_NUM_THREADS": "4",  # as many a login shell says; the sbatch files know better
        "OPENBLAS_NUM_THREADS": "4",
        "SLURM_MPI_TYPE": "pmi2" if mpi_library() == "MPICH" else "pmix",
    }
    subprocess.run([HERE / "slurm", "up", folder], check=True)
    yield Slurm(folder, environment)
    subprocess.run([HERE / "slurm", "down", folder], check=True)


def plain_slide(path: Path, side: int) -> Path:
    """Nothing but tissue, `side` pixels square, so that there is plenty to do."""
    pixels = np.full((side, side, 3), (150, 80, 160), np.uint8)
    resolution = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression="jpeg", **resolution)
    return path


@dataclass(frozen=True)
class Reference:
    """Slides, a model, and the digests of their results on one rank."""

    slides: list[Path]
    model: Path
    digests: list[str]


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Two generated slides and one of a single square."""
    folder = tmp_path_factory.mktemp("reference")
    slides = [folder / "one.tif", tissue_slide(folder / "square.tif"), folder / "two.tif"]
    for seed, slide in enumerate(slides):
        if not slide.exists():
            write_slide(SynthSpec(2500, 2000, seed=seed + 1), slide)
    model = write_package(folder / "model", side=64, thresholds=(0.5, 0.3, 0.2))
    assert pyramidai(*slides, "--model", model, "--results-dir", folder).returncode == 0
    return Reference(slides, model, [read_digest(slide.with_suffix(".h5")) for slide in slides])
