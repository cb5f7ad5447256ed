"""What ``--tissue`` may be: a method, a network, or a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.settings import TISSUE_METHODS

_DESCRIPTION = "model.yaml"
"""What makes a folder a network's package; whoever reads it sees whether it is one that segments."""


@dataclass(frozen=True)
class TissueWay:
    """How tissue is found.

    Attributes
    ----------
    method
        Of `TISSUE_METHODS`, where neither of the others is given.
    network
        Package of a network that finds it.
    mask
        A mask, or a folder of masks, that says where it is.
    """

    method: str = TISSUE_METHODS[0]
    network: Path | None = None
    mask: Path | None = None


def parse_tissue(word: str, tissue_mask: Path | None = None) -> TissueWay:
    """What a value of ``--tissue`` stands for.

    Parameters
    ----------
    word
        The value.
    tissue_mask
        That of ``--tissue-mask``.

    Raises
    ------
    UsageError
        When both name a mask.
    """
    if word in TISSUE_METHODS:
        return TissueWay(word, mask=tissue_mask)
    if (Path(word) / _DESCRIPTION).is_file():
        return TissueWay(network=Path(word), mask=tissue_mask)
    if tissue_mask is not None:
        raise UsageError(f"--tissue {word} and --tissue-mask {tissue_mask} both name a mask; give one")
    return TissueWay(mask=Path(word))
