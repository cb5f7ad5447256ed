"""The command as results and model cards record it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pyramidai_mpi.base.names import name_of


def recorded_command(context: click.Context) -> str:
    """What the user gave, in the order of ``--help``: files by their names, without the folders they lie in."""
    words, options = context.command_path.split(), []
    for parameter in context.command.params:
        if parameter.name is None or context.get_parameter_source(parameter.name) is not ParameterSource.COMMANDLINE:
            continue
        given = context.params[parameter.name]
        values = given if parameter.multiple or parameter.nargs != 1 else (given,)
        names = [_recorded(value) for value in values]
        if isinstance(parameter, click.Argument):
            words += names
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            options.append(max(parameter.opts if given else parameter.secondary_opts, key=len))
        else:
            options += [word for name in names for word in (max(parameter.opts, key=len), name)]
    return shlex.join([*words, *options])


def _recorded(value: Any) -> str:
    if isinstance(value, Path):
        return name_of(value)
    word, path = str(value), Path(str(value))
    # an option may take a word or a file
    return name_of(path) if path.is_absolute() or (os.sep in word and os.path.lexists(word)) else word
