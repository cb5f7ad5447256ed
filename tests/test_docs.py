"""Every command of the documentation works as it stands there."""

from __future__ import annotations

import importlib
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pyramidai_mpi.testing.launch import REPOSITORY
from tests.documented import blocks_of, run_commands

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
RUN_ELSEWHERE = {"tuning.md", "training.md"}  # by test_tutorial and test_training_page, which look at what comes out


@dataclass(frozen=True)
class NotHere:
    """Commands that take what a machine for tests need not have."""

    pattern: str
    reason: str
    tested: str


NOT_HERE = (
    NotHere(r"sbatch ", "SLURM", "tests/cluster/test_slurm.py"),
    NotHere(r"bash bench/scale/slurm/", "SLURM", "tests/cluster/test_slurm.py"),
    NotHere(r"bash bench/scale/sge/", "SGE", "tests/bench/test_array_scripts.py"),
    NotHere(r"srun ", "SLURM", "tests/cluster/test_slurm.py"),
    NotHere(r"mpirun (-f|--hostfile) machines ", "several hosts", "tests/cluster/test_hosts.py"),
    NotHere(r"mpirun --with-ft ulfm ", "Open MPI 5", "tests/faults/test_lost_ranks.py"),
    NotHere(r"docker (build|run) ", "a container engine", "tests/test_containers.py"),
    NotHere(r"apptainer (build|run) ", "a container engine", "tests/test_containers.py"),
    NotHere(r"pyramidai train ", "torch", "tests/training/test_train.py"),
    NotHere(r"mpirun -n \d+ python -m pyramidai_mpi train ", "torch", "tests/training/test_training_page.py"),
    NotHere(r"pyramidai models build ", "torch", "tests/cli/test_models.py"),
    NotHere(r"pyramidai models import timm:", "timm", "tests/training/test_timm_import.py"),
    NotHere(r".*(my-encoder|encoded\.h5)", "timm", "tests/end_to_end/test_encoders.py"),
    NotHere(r"pyramidai models import ", "torch", "tests/training/test_zoo_import.py"),
    NotHere(r"pyramidai view ", "somebody who looks, and ends it", "tests/view/test_command.py"),
    NotHere(r"ssh ", "another machine", "tests/view/test_command.py"),
    NotHere(r".* --backend openvino ", "OpenVINO", "tests/models/test_backends.py"),
)


def lines_of(page: Path) -> list[str]:
    return [line for block in blocks_of(page) for line in block.splitlines()]


def takes_more(line: str) -> bool:
    return any(re.match(entry.pattern, line) for entry in NOT_HERE)


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in RUN_ELSEWHERE and not all(map(takes_more, lines_of(page)))],
    ids=lambda page: page.stem,
)
def test_all_commands_of_the_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "bin").mkdir()
    script = "\n".join(line for line in lines_of(page) if not takes_more(line))
    assert run_commands(script, tmp_path / "folder", tmp_path / "bin").returncode == 0


LEFT_OUT = [(page.name, line) for page in PAGES for line in lines_of(page) if takes_more(line)]


@pytest.mark.parametrize(("page", "line"), LEFT_OUT, ids=[f"{page}: {line[:40]}" for page, line in LEFT_OUT])
def test_what_cannot_run_here_names_options_and_files_that_there_are(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    for word in words:
        if word.startswith(("bench/", "containers/")):
            assert (REPOSITORY / word).is_file()
    if "pyramidai_mpi" in words and "-m" in words:
        rest = words[words.index("pyramidai_mpi", words.index("-m")) + 1 :]
        command, rest = (rest[:1], rest[1:]) if rest[0].startswith("train") else (["run"], rest)
    elif words[0] == "pyramidai":
        names = 2 if words[1] in {"models", "classify"} else 1
        command, rest = words[1 : 1 + names], words[1 + names :]
    else:
        return
    found = importlib.import_module(f"pyramidai_mpi.cli.{command[0].replace('-', '_')}").command
    for name in command[1:]:
        found = found.commands[name]
    help_text = CliRunner().invoke(found, ["--help"]).output
    for option in (word for word in rest if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){re.escape(option.split('=')[0])}(?![\w-])", help_text), option


@pytest.mark.parametrize("entry", NOT_HERE, ids=lambda entry: entry.pattern)
def test_the_list_of_what_cannot_run_here_is_short_and_says_what_tests_it(entry: NotHere) -> None:
    assert (REPOSITORY / entry.tested).is_file()
    assert any(re.match(entry.pattern, line) for _, line in LEFT_OUT)


def test_all_figures_of_the_page_of_figures_are_those_of_the_benches() -> None:
    rows = [line.split("|")[2] for line in (REPOSITORY / "docs/performance.md").read_text().splitlines() if "|" in line]
    benches = (REPOSITORY / "bench/README.md").read_text()
    figures = [figure for row in rows[2:] for figure in re.findall(r"\d[\d .]*\d %|\d[\d .]*\d", row)]
    assert len(figures) > 15
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", benches), figure
