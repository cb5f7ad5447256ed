"""Run a command as a user who owns nothing but one folder, on a machine that lacks this or that; see `tests.users`.

    unshare --mount python tests/run_as_user.py UID FOLDER[:FOLDER...] CHANGE,... -- COMMAND...

Changes are seen by the command alone, as the mounts are those of a name space of its own: ``read-only`` all but the
folders; ``none=DIR`` nothing where this folder was, and no right to write there; ``noexec=DIR`` no programs in it;
``size=DIR:KILOBYTES`` a file system of that size there.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Mount, become the user, run."""
    uid, folders, changes, _, *command = sys.argv[1:]
    mount("--make-rprivate", "/")
    kept = [Path(folder) for folder in folders.split(":")]
    program = [Path(sys.base_prefix), Path(sys.prefix), Path(__file__).resolve().parents[1]]
    let_pass([*program, *kept])
    for change in filter(None, changes.split(",")):
        kind, _, where = change.partition("=")
        {"read-only": lambda _: make_read_only(kept), "none": hide, "noexec": forbid_programs, "size": make_small}[
            kind
        ](where)
    here = Path.cwd()
    os.chdir("/")
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    os.chdir(here if os.access(here, os.X_OK) else kept[0])
    os.execvp(command[0], command)


def mount(*words: str | Path) -> None:
    """Mount something.

    Raises
    ------
    SystemExit
        That cannot be done.
    """
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"mount {' '.join(map(str, words))}: {done.stderr}")


def let_pass(trees: list[Path]) -> None:
    """Let anybody come to these folders; what lies beside them, below a folder that others may not enter, is hidden."""
    closed = {parent for tree in trees for parent in tree.parents if not parent.stat().st_mode & stat.S_IXOTH}
    top = sorted(parent for parent in closed if not closed & set(parent.parents))
    for parent in top:
        below = sorted({tree for tree in trees if parent in tree.parents}, key=lambda tree: len(tree.parts))
        staged = {tree: Path(tempfile.mkdtemp(dir="/tmp")) for tree in below}
        for tree, place in staged.items():
            mount("--bind", tree, place)
        mount("-t", "tmpfs", "-o", "mode=755,size=1m", "pyramidai-test", parent)
        for tree, place in staged.items():
            tree.mkdir(parents=True, exist_ok=True)
            mount("--bind", place, tree)


def make_read_only(kept: list[Path]) -> None:
    """Let nothing be written but in some folders, and what is mounted on /dev, as in a container with such a root."""
    for folder in kept:
        mount("--bind", folder, folder)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = line.split()[1].encode().decode("unicode_escape")
        path = Path(place)
        if place.startswith(("/dev", "/proc", "/sys")) or any(path == folder for folder in kept):
            continue
        subprocess.run(["mount", "-o", "remount,bind,ro", place], capture_output=True, check=False)


def hide(folder: str) -> None:
    """Put an empty folder there, in which nobody may write."""
    mount("-t", "tmpfs", "-o", "ro,mode=555,size=4k", "pyramidai-test", folder)


def forbid_programs(folder: str) -> None:
    """Let no program, nor library, be run from there."""
    mount("-t", "tmpfs", "-o", "noexec,mode=1777,size=64m", "pyramidai-test", folder)


def make_small(asked: str) -> None:
    """Put a file system there that takes so many kilobytes."""
    folder, _, kilobytes = asked.rpartition(":")
    mount("-t", "tmpfs", "-o", f"mode=1777,size={kilobytes}k", "pyramidai-test", folder)


if __name__ == "__main__":
    main()
