"""The container files take the very steps that CI runs, and nothing else; no container engine is needed to tell."""

from __future__ import annotations

import fnmatch
import re
import subprocess

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY

CONTAINERS = REPOSITORY / "containers"
SCRIPT = "install-parallel-hdf5.sh"


def instructions() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile in order: word and arguments, on one line."""
    text = re.sub(r"^#.*\n", "", (CONTAINERS / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.split(maxsplit=1) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]
    return [(word, rest) for word, rest in lines]


def sections() -> list[tuple[str, list[str]]]:
    """Sections of the Apptainer definition in order: name and lines; headers are the section ``header``."""
    found: list[tuple[str, list[str]]] = []
    for line in (CONTAINERS / "pyramidai.def").read_text().splitlines():
        if line.startswith("Bootstrap:"):
            found.append(("header", []))
        if line.startswith("%"):
            found.append((line[1:], []))
        elif line.strip() and not line.startswith("#"):
            found[-1][1].append(line.strip())
    return found


def docker_steps() -> list[str]:
    return [step for word, rest in instructions() if word == "RUN" for step in rest.split(" && ")]


def apptainer_steps() -> list[str]:
    return [line for name, lines in sections() if name == "post" for line in lines]


def test_both_images_take_the_same_steps_but_for_the_user_whom_apptainer_brings_along() -> None:
    assert [step for step in docker_steps() if not step.startswith("useradd")] == apptainer_steps()
    assert apptainer_steps() == [
        f"{SCRIPT} packages build",
        f"{SCRIPT} environment /opt/pyramidai /src",
        f"{SCRIPT} packages run",
        "rm -rf /var/lib/apt/lists/*",
    ]


def test_ci_runs_the_steps_that_build_the_environment() -> None:
    ci = (REPOSITORY / ".ci" / "parallel_hdf5").read_text()
    run = re.findall(rf"containers/{re.escape(SCRIPT)} (\w+ \S+)", ci)
    assert run == ["packages build", 'environment "$work/mpio"']


def test_both_stand_on_one_debian_12_with_its_full_version() -> None:
    bases = {rest.split()[0] for word, rest in instructions() if word == "FROM"}
    bases |= {line.split()[1] for name, lines in sections() if name == "header" for line in lines if "From:" in line}
    (base,) = bases
    assert re.fullmatch(r"debian:12\.\d+-slim", base)


def test_the_image_does_not_run_as_root() -> None:
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users
    assert not users[-1].startswith(("0", "root"))
    assert f"--uid {users[-1].split(':')[0]} " in dict(instructions())["RUN"]


def test_what_is_copied_is_there_and_is_all_that_an_installation_takes() -> None:
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    docker = {source for sources in copied for source in sources}
    apptainer = {line.split()[0] for name, lines in sections() if name == "files" for line in lines}
    assert docker == apptainer
    for source in docker:
        assert (REPOSITORY / source).exists(), source
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in docker:
        assert any(fnmatch.fnmatch(source.split("/")[0], pattern) for pattern in allowed), source
    settings = (REPOSITORY / "setup.cfg").read_text()
    for needed in ("README.md", "LICENSE"):
        assert needed in settings
        assert needed in docker
    assert {line.split("/")[0].strip() for line in settings.splitlines() if line.startswith("    models/")} <= docker


@pytest.mark.parametrize("words", [[], ["packages"], ["packages", "all"], ["environment", "folder"]])
def test_unknown_steps_are_refused_with_the_list_of_steps(words: list[str]) -> None:
    done = subprocess.run([CONTAINERS / SCRIPT, *words], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 64
    assert "packages build" in done.stderr
    assert not done.stdout


def test_the_script_is_sound_to_the_shell() -> None:
    subprocess.run(["sh", "-n", CONTAINERS / SCRIPT], check=True, timeout=20)
