"""What an installation brings, what it leaves to extras, and what is said where an extra is missing."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys

import pytest

from bench.speed.footprint import brought_by
from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.extras import EXTRAS, require_extra
from pyramidai_mpi.testing.launch import REPOSITORY

_IMPORTED_AS = {"scikit-learn": "sklearn"}


def setup() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return config


def names_in(requirements: str) -> set[str]:
    lines = [line for line in requirements.splitlines() if line.strip() and not line.strip().startswith("#")]
    return {re.split(r"[<>=\[ ]", line.strip())[0] for line in lines}


def run_without(libraries: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process in which these cannot be imported."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({libraries!r}))\n"
        "from pyramidai_mpi.cli.main import main; main(sys.argv[1:])"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_asked_for_is_what_the_extra_installs(extra):
    installed = names_in(setup()["options.extras_require"][extra])
    assert {_IMPORTED_AS.get(name, name) for name in installed} == set(EXTRAS[extra])


def test_no_extra_is_brought_by_a_plain_installation():
    plain = {one.name.lower() for one in brought_by()}
    assert {"numpy", "onnxruntime", "openslide-python"} <= plain
    assert not plain & {"matplotlib", "scikit-learn", "skops", "torch", "openvino", "pandas"}


def test_the_size_in_the_documents_is_that_of_what_is_installed():
    (stated,) = re.findall(r"(\d+) MB on the disk", (REPOSITORY / "docs/performance.md").read_text(encoding="utf-8"))
    assert sum(one.megabytes for one in brought_by()) == pytest.approx(int(stated), rel=0.15)


def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"--plots needs matplotlib: pip install 'pyramidai-mpi\[plots\]'"):
        require_extra("plots", "--plots")


@pytest.mark.parametrize(
    ("missing", "extra", "arguments"),
    [
        ("matplotlib", "plots", ["simulate", "x.h5", "--plot", "curves"]),
        ("onnxscript", "train", ["models", "build", "inception_v3", "--random", "-o", "new"]),
        ("torch", "train", ["train", "--truth", ".", "-o", "new", "x.tif"]),
        ("skops", "classify", ["classify", "fit", "x.h5", "--labels", "x.csv", "-o", "new.skops"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_command_says_which_extra_it_lacks_before_it_does_anything(missing, extra, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    done = run_without([missing], *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (64, 1), done.stderr
    assert missing in done.stderr
    assert f"pip install 'pyramidai-mpi[{extra}]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_supported_versions_of_python_are_said():
    config = setup()
    said = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    assert config["options"]["python_requires"] == f">={said[0]}"
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in said
