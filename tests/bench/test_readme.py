"""Each bench says what it does, and the page of benches and the pages that name benches speak of what there is."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY

SOURCES = sorted((REPOSITORY / "bench").rglob("*.py"))
SCRIPTS = [
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__main__")
    for path in SOURCES
    if re.search(r"command_line\(__doc__|ArgumentParser\(", path.read_text(encoding="utf-8"))
    and "__main__" in path.read_text(encoding="utf-8")
]
PAGES = [REPOSITORY / "bench/README.md", REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md"]
PAGES += sorted((REPOSITORY / "docs").glob("*.md"))


ASK_ALL = """
import contextlib, io, json, runpy, sys
found = {}
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    sys.modules.pop(script, None)  # runpy warns of what another one has imported
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            runpy.run_module(script, run_name="__main__")
            code = "went on"
        except SystemExit as end:
            code = end.code
        except ModuleNotFoundError as missing:
            code = missing.name
    found[script] = code, said.getvalue()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answers():
    """Exit code, or the library that is missing, and output of every script with ``--help``: all in one process."""
    done = subprocess.run(
        [sys.executable, "-c", ASK_ALL, *SCRIPTS], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_bench_says_what_it_does_and_how_it_is_called(script, answers):
    code, said = answers[script]
    if code == "torch":
        pytest.skip("needs torch")
    assert code == 0
    assert f"python -m {script}" in said


def test_all_scripts_are_found():
    assert len(SCRIPTS) > 25
    assert "bench.balance.sched_cost" in SCRIPTS


def texts() -> dict[str, str]:
    """The pages, and every docstring in bench, by where it stands."""
    found = {str(page.relative_to(REPOSITORY)): page.read_text(encoding="utf-8") for page in PAGES}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (doc := ast.get_docstring(node)):
                place = f"{path.relative_to(REPOSITORY)}: {getattr(node, 'name', 'module')}"
                found[place] = doc
    return found


def not_there(text: str) -> list[str]:
    """Modules (``bench.room.script``), what is in them, and files (``bench/...``) that a text names in vain."""
    wrong = []
    for name in re.findall(r"\bbench\.\w+(?:\.\w+)*", text):
        path = REPOSITORY / name.replace(".", "/")
        module, inside = path.parent.with_suffix(".py"), rf"^(def |class )?{path.name}\b"
        is_inside = module.is_file() and re.search(inside, module.read_text(encoding="utf-8"), re.MULTILINE)
        if not (path.with_suffix(".py").is_file() or path.is_dir() or is_inside):
            wrong.append(name)
    for name in re.findall(r"(?<![\w/])(?:\.\./)?bench/[\w./*-]*\w/?", text):
        stem = name.removeprefix("../")
        # a prefix of pictures: --plot bench/speed/cost
        if not any(REPOSITORY.glob(stem)) and not (REPOSITORY / f"{stem}.png").is_file():
            wrong.append(name)
    return wrong


TEXTS = texts()


@pytest.mark.parametrize("place", [place for place, text in TEXTS.items() if "bench" in text])
def test_what_is_said_of_benches_is_there(place):
    assert not_there(TEXTS[place]) == []


def test_the_page_of_benches_names_every_script():
    assert [script for script in SCRIPTS if script not in TEXTS["bench/README.md"]] == []


def test_pictures_of_the_page_of_benches_are_there():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", TEXTS["bench/README.md"])
    assert len(pictures) > 5
    assert [name for name in pictures if not (REPOSITORY / "bench" / name).is_file()] == []


@pytest.mark.parametrize(
    "wrong",
    [
        "python -m bench.cost",
        "see `bench.speed.costs`",
        "bench.speed.cost.Serie",
        "[it](../bench/slurm/array.sbatch)",
        "bench/cost.png",
    ],
)
def test_a_wrong_name_is_seen(wrong):
    assert len(not_there(wrong)) == 1


def test_what_is_there_is_not_called_wrong():
    right = "`bench/scale/slurm/` python -m bench.speed.cost --plot bench/speed/cost, bench/README.md, bench/*/*.png,"
    assert not_there(f"{right} `bench.speed.cost.Series`, `bench.speed`, bench.") == []
