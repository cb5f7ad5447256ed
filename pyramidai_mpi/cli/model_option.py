"""The type of options and arguments that name a model: a folder, or a shipped model's name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class _Model(click.Path):
    """A path, which a shell completes to shipped models and folders."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        from click.shell_completion import CompletionItem

        from pyramidai_mpi.models.shipped import shipped_models

        names = [CompletionItem(name) for name in shipped_models() if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="dir")]


MODEL = _Model(path_type=Path, readable=False)
