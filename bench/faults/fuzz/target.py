"""What is fuzzed: bytes from outside, and the functions of the program that read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from pyramidai_mpi.base.errors import ExitCode, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from random import Random

Mutator: TypeAlias = "Callable[[bytes, Random, Callable[[bytes], bytes]], bytes]"
"""Changes an input by its structure. It is given the input, a source of chance, and a change of any bytes."""


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes
    ----------
    read
        Given an input and an empty folder: writes what the input stands for there, and reads it as commands do.
    seeds
        Given an empty folder: sound inputs by name, made by the program's own writers.
    mutate
        A change by structure, for inputs that a change of bytes alone would only break; it is made of half of them.
    words
        Bytes that mean something in such inputs.
    refusals
        Exit codes of the errors by which an input may be refused.
    memory_mib
        Most addresses that reading an input may take beyond what the process has before.
    seconds
        Most processor time that one input may take.
    may_start
        Whether reading may start a process: the child that tries the input first.
    most_bytes
        Longest input.
    prepare
        Called once, before anything is read.
    """

    read: Callable[[bytes, Path], None]
    seeds: Callable[[Path], Mapping[str, bytes]]
    mutate: Mutator | None = None
    words: tuple[bytes, ...] = ()
    refusals: frozenset[int] = field(default_factory=lambda: frozenset({ExitCode.BAD_INPUT, ExitCode.USAGE}))
    memory_mib: int = 512
    seconds: float = 10.0
    may_start: bool = False
    most_bytes: int = 4096
    prepare: Callable[[], object] = lambda: None


def go_all(*ways: Callable[[], object]) -> None:
    """Read an input in all of several ways; raises the last refusal, if there was one."""
    refused = None
    for way in ways:
        try:
            way()
        except InputError as error:
            refused = error
    if refused is not None:
        raise refused
