"""The command lines of the benches: what they share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

OUTLINES = Path(__file__).resolve().parents[2] / "shared/data/camelyon16/train_tumor_polygons.json.gz"

Options = argparse.Namespace

_OPTIONS: dict[str, dict[str, Any]] = {
    "outlines": {"default": OUTLINES, "metavar": "FILE", "help": "JSON of lesion outlines, may be gzipped"},
    "json": {"metavar": "FILE", "help": "write the figures as JSON"},
    "plot": {"metavar": "PREFIX", "help": "write PREFIX.svg and PREFIX.png"},
}


def command_line(doc: str | None, *options: str) -> argparse.ArgumentParser:
    """Parser of a bench that says what the module's docstring `doc` says.

    Parameters
    ----------
    doc
        The docstring.
    *options
        Of the options that benches share, those that this one has: ``outlines``, ``json``, ``plot``; paths all.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in options:
        parser.add_argument(f"--{name}", type=Path, **_OPTIONS[name])
    return parser
