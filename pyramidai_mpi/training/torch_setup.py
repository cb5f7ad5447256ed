"""How torch computes here: one thread a rank, in one order."""

from __future__ import annotations

import torch


def use_one_thread() -> None:
    """Let torch compute with one thread, in a fixed order: more would add numbers in orders of their own."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)  # type: ignore[no-untyped-call]
