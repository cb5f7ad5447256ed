"""The scripts that submit arrays of parts, under schedulers that are not there: what they submit, and what again.

The tasks are run one by one as the scheduler would; the program itself is a stand-in that makes results of the slides
of its part, but for one that fails the first time. What is missing is asked of the real program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY
from tests.results import result_of, write_file

if TYPE_CHECKING:
    from pathlib import Path

N_SLIDES, N_PARTS, LIMIT, FAILING = 11, 8, 3, 5

PYTHON = f"""#!/bin/bash
if [ "$3" = merge ]; then exec {sys.executable} "$@"; fi
echo "$*" >>"$STANDIN/done"
part=$(sed 's|.* --part \\([0-9]*\\)/.*|\\1|' <<<"$*")
if [ "$part" = {FAILING} ] && [ ! -e "$STANDIN/mended" ]; then exit 4; fi
for ((slide = part; slide <= {N_SLIDES}; slide += {N_PARTS})); do
  cp "$STANDIN/result.h5" "$STANDIN/results/s$slide.h5"
done
"""
SUBMIT = '#!/bin/bash\nprintf "%s\\t" "$@" >>"$STANDIN/submitted"\necho >>"$STANDIN/submitted"\n'
CONFIGURATION = {"scontrol": f"MaxArraySize            = {LIMIT + 1}", "qconf": f"max_aj_tasks                 {LIMIT}"}


@dataclass(frozen=True)
class Scheduler:
    """One that is not there: its script, and where among the words of a call the tasks and their environment stand."""

    name: str
    script: str
    tasks: str
    variables: str
    number: str

    def run(self, folder: Path, words: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "PYRAMIDAI_ENVIRONMENT": str(folder),
            "PYTHONPATH": str(REPOSITORY),
            "STANDIN": str(folder),
            **more,
        }
        return subprocess.run(
            ["bash", *words], env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )

    def call(self, folder: Path) -> subprocess.CompletedProcess[str]:
        """As the user calls it."""
        script = str(REPOSITORY / "bench" / "scale" / self.script)
        done = self.run(folder, [script, str(N_PARTS), "list.csv", "results", "--model", "a model"])
        print(done.stdout, done.stderr)
        return done

    def arrays(self, folder: Path) -> list[list[str]]:
        """Numbers of the tasks of each array that was submitted since, which are then run."""
        found = []
        submitted = folder / "submitted"
        for line in submitted.read_text().splitlines() if submitted.exists() else []:
            words = line.rstrip("\t").split("\t")
            start = next(n for n, word in enumerate(words) if word.endswith(("parts.sbatch", "parts.sh")))
            options = " ".join(words[:start])
            listed = re.search(self.tasks, options)[1]
            variables = dict(word.split("=", 1) for word in re.search(self.variables, options)[1].split(","))
            numbers = []
            for stretch in listed.split(","):
                first, _, last = stretch.partition("-")
                numbers += map(str, range(int(first), int(last or first) + 1))
            for number in numbers:
                self.run(folder, words[start:], **{self.number: number}, **variables)
            found.append(numbers)
        submitted.unlink(missing_ok=True)
        return found


SCHEDULERS = [
    Scheduler("slurm", "slurm/parts.sbatch", r"--array=(\S+)", r"--export=ALL,(\S+)", "SLURM_ARRAY_TASK_ID"),
    Scheduler("sge", "sge/parts.sh", r"-t (\S+)", r"-v (\S+)", "SGE_TASK_ID"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An environment with the stand-ins, and a list of slides."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "activate").write_text('PATH="$STANDIN/bin:$PATH"\n')
    for name, text in {
        "python": PYTHON,
        "sbatch": SUBMIT,
        "qsub": SUBMIT,
        **{name: f'#!/bin/bash\necho "{line}"\n' for name, line in CONFIGURATION.items()},
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "list.csv").write_text("wsi\n" + "".join(f"s{n}.tif\n" for n in range(1, N_SLIDES + 1)))
    write_file(tmp_path / "result.h5", result_of())
    return tmp_path


@pytest.mark.skipif(shutil.which("awk") is None, reason="needs awk, which every cluster has")
@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda scheduler: scheduler.name)
def test_all_parts_are_submitted_in_arrays_within_the_limit_and_then_what_failed_again(
    scheduler: Scheduler, folder: Path
) -> None:
    assert scheduler.call(folder).returncode == 0
    assert scheduler.arrays(folder) == [["1", "2", "3"], ["1", "2", "3"], ["1", "2"]]
    done = (folder / "done").read_text().splitlines()
    expected = "-m pyramidai_mpi run --slides list.csv --results-dir results --part {}/8 --resume --model a model"
    assert done == [expected.format(part) for part in range(1, N_PARTS + 1)]
    assert sorted(path.stem for path in (folder / "results").glob("*.h5")) == sorted(
        f"s{n}" for n in range(1, N_SLIDES + 1) if n != FAILING
    )

    (folder / "done").unlink()
    (folder / "mended").touch()
    (folder / "results" / "s8.h5").unlink()
    (folder / "results" / "s9.h5").write_bytes(b"torn")  # a part's second slide: its first is done
    assert scheduler.call(folder).returncode == 0
    tasks = {"slurm": [["1"], ["2"], ["2"]], "sge": [["1", "2", "3"]]}
    assert scheduler.arrays(folder) == tasks[scheduler.name]
    assert re.findall(r"--part (\d+)/8", (folder / "done").read_text()) == ["1", "5", "8"]

    last = scheduler.call(folder)
    assert last.returncode == 0
    assert "all 11 slides have their results" in last.stderr
    assert scheduler.arrays(folder) == []
    assert sorted(path.name for path in (folder / "results").iterdir()) == sorted(
        f"s{n}.h5" for n in range(1, N_SLIDES + 1)
    )
