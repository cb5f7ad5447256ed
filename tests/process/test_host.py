"""What a result was made with is told as far as it can be found out.

The git revision is that of a checkout which holds the program's files, and of no other one around them.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import socket
import subprocess
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as metadata_version
from pathlib import Path

import pytest

from pyramidai_mpi.process import host as provenance


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_revision_is_told_only_by_a_checkout_of_the_program(tmp_path):
    copy = tmp_path / "process" / "host.py"
    copy.parent.mkdir()
    shutil.copy(provenance.__file__, copy)
    spec = importlib.util.spec_from_file_location("copied_provenance", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.git_revision() is None  # no checkout
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "of something else")
    assert module.git_revision() is None
    git(tmp_path, "add", "process/host.py")
    git(tmp_path, "commit", "-q", "-m", "with the program")
    assert module.git_revision() == git(tmp_path, "rev-parse", "HEAD")
    copy.write_text(copy.read_text() + "\n")
    assert module.git_revision() == git(tmp_path, "rev-parse", "HEAD") + "+"


def test_a_library_that_was_not_installed_under_its_name_is_no_error(monkeypatch):
    known = provenance.library_versions()

    def version(name):
        if name == "openslide-bin":
            raise PackageNotFoundError(name)
        return known[name] if name in known else metadata_version(name)

    monkeypatch.setattr(provenance, "version", version)
    assert provenance.library_versions() == known  # of many slides each asks: looked for once
    provenance._versions_found.cache_clear()
    assert provenance.library_versions() == {name: known[name] for name in known if name != "openslide-bin"}
    provenance._versions_found.cache_clear()


def test_what_is_kept_of_a_host_tells_systems_and_name_spaces_of_process_numbers_apart():
    host, boot, space = provenance.pid_space().split()
    assert host == socket.gethostname() == provenance.host_name()
    assert boot.encode() == provenance.machine_id()
    assert space == str(Path("/proc/self/ns/pid").readlink())


def test_a_system_that_does_not_tell_has_its_name_and_no_space_of_process_numbers(monkeypatch):
    monkeypatch.setattr(provenance, "_boot_id", str)
    assert provenance.machine_id() == socket.gethostname().encode()
    assert provenance.pid_space() == ""


def test_nobody_else_asks_which_host_this_is():
    package = Path(provenance.__file__).parents[1]
    asking = [path for path in package.rglob("*.py") if re.search("gethostname|boot_id", path.read_text())]
    assert [path.relative_to(package).as_posix() for path in asking] == ["process/host.py"]
