"""Random choices that follow from numbers, never from what a rank has drawn before."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def generator_of(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """Generator of numpy for one purpose, such as an epoch's order; `numbers` tell whose choice it is."""
    return np.random.default_rng(_entropy(seed, purpose, numbers))


def seed_torch(seed: int, purpose: str, *numbers: int) -> None:
    """Let torch's own choices from here on, such as dropout's, follow from these."""
    torch.manual_seed(_entropy(seed, purpose, numbers) % 2**63)


def _entropy(seed: int, purpose: str, numbers: tuple[int, ...]) -> int:
    text = " ".join([purpose, str(seed), *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
