"""What a shell offers at the tab key: click's completion, with files beside commands, as `pyramidai SLIDE` is a run."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATHS = {"file", "dir"}


class _Words(ShellComplete):
    """Completes words without a command as those of the default one."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """See click."""
        args, incomplete = super().get_completion_args()
        assert isinstance(self.cli, click.Group)
        first = args[0] if args else incomplete
        is_command = first in self.cli.list_commands(click.Context(self.cli))
        if (args and not is_command) or first.startswith("-"):
            args.insert(0, "run")
        return args, incomplete


class _Bash(_Words, BashComplete):
    """Names the files itself where there are other words as well: bash, told to, would offer them instead of these."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        """See click."""
        items = super().get_completions(args, incomplete)
        words = [item for item in items if item.type not in _PATHS]
        kinds = {item.type for item in items} & _PATHS
        if not words or not kinds:
            return items
        return [*words, *_entries(incomplete, folders_alone=kinds == {"dir"})]


class _Zsh(_Words, ZshComplete):
    pass


class _Fish(_Words, FishComplete):
    pass


def prepare_completion() -> None:
    """Let click, which answers a shell before it looks at any command, do so in our ways."""
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)


def _entries(beginning: str, *, folders_alone: bool) -> Iterator[CompletionItem[Any]]:
    """Files and folders of the current folder whose names begin so."""
    with suppress(OSError), os.scandir() as found:
        for entry in sorted(found, key=lambda entry: entry.name):
            is_wanted = entry.name.startswith(beginning) and (beginning or not entry.name.startswith("."))
            if is_wanted and entry.name.isprintable() and (entry.is_dir() or not folders_alone):
                yield CompletionItem(entry.name + ("/" if entry.is_dir() else ""))
