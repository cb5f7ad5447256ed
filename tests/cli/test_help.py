"""Lists of commands fit into a line each."""

from __future__ import annotations

import importlib

import pytest

WIDTH = 50


@pytest.mark.parametrize("name", ["models", "patches"])
def test_what_a_command_does_is_said_whole_in_a_line(name):
    group = importlib.import_module(f"pyramidai_mpi.cli.{name}").command
    said = {name: one.get_short_help_str(WIDTH) for name, one in group.commands.items()}
    assert len(said) > 3
    assert [name for name, text in said.items() if text.endswith("...") or not 5 < len(text) <= WIDTH] == []
