"""The kinds of input that are fuzzed, one module each; a module is loaded when its kind is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from bench.faults.fuzz.target import Target

KINDS = {
    "geojson": "annotations.GEOJSON",
    "asap": "annotations.ASAP",
    "tables": "tables.TABLES",
    "model": "packages.MODEL",
    "config": "packages.CONFIG",
    "masks": "masks.MASKS",
    "slides": "slides.SLIDES",
    "journal": "journals.JOURNAL",
    "manifest": "journals.MANIFEST",
    "messages": "messages.MESSAGES",
    "results": "sealed.RESULTS",
    "patches": "sealed.PATCHES",
    "foreign": "foreign.FOREIGN",
    "networks": "networks.NETWORKS",
    "networks-tried": "networks.TRIED",
    "checkpoints": "checkpoints.CHECKPOINTS",
    "classifiers": "checkpoints.CLASSIFIERS",
    "requests": "requests.REQUESTS",
}
"""Where the target of each kind is."""


def target_of(kind: str) -> Target:
    """The target of a kind of `KINDS`."""
    module, name = KINDS[kind].split(".")
    return cast("Target", getattr(import_module(f"{__name__}.{module}"), name))
