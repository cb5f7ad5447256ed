"""How many patches of each label a file holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.store.patches.reader import PatchFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.patches.shares import Spreads
    from pyramidai_mpi.store.patches.record import PatchHeader

NO_LABEL = "unknown"
"""What patches are called that truth says nothing of; a label of that name is the same."""


@dataclass(frozen=True)
class Tally:
    """What a file of patches counts for.

    Attributes
    ----------
    path, header
        The file, and what it says.
    n_of
        Patches by the name of their label, in the order of the labels; `NO_LABEL` last, where there are any.
    """

    path: Path
    header: PatchHeader
    n_of: Mapping[str, int]

    @property
    def patient(self) -> str | None:
        """Whose slide it is of; None where nobody has said."""
        return self.header.slide.origin.get("patient")


def label_places(label_names: Sequence[str], label: npt.NDArray[np.integer]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Names of the labels in their order, `NO_LABEL` last where any patch has none; and each patch's place among them.

    Parameters
    ----------
    label_names
        Names by number.
    label
        Number of each patch's label, or `UNKNOWN`.
    """
    names = list(dict.fromkeys(name for name in label_names if name != NO_LABEL))
    place_of = {name: place for place, name in enumerate(names)} | {NO_LABEL: len(names)}
    place = np.array([place_of[name] for name in (*label_names, NO_LABEL)])[label]  # UNKNOWN is -1, and so the last
    return [*names, *([NO_LABEL] if (place == len(names)).any() else [])], place


def tally(path: Path, spreads: Spreads | None = None) -> Tally:
    """Count the patches of a file.

    Parameters
    ----------
    path
        The file.
    spreads
        Count the shares of its patches there, too.

    Raises
    ------
    InputError
        When it is no sound file of patches.
    """
    with PatchFile(path) as file:
        table = file.patches
        names, place = label_places(file.header.settings.label_names, table["label"])
        if spreads is not None:
            spreads.add(table, names, place)
        return Tally(
            path, file.header, dict(zip(names, np.bincount(place, minlength=len(names)).tolist(), strict=True))
        )


def labels_of(tallies: Iterable[Tally]) -> list[str]:
    """Names of all labels of some files, each once: as they come, `NO_LABEL` last."""
    names = dict.fromkeys(name for each in tallies for name in each.n_of)
    return sorted(names, key=lambda name: name == NO_LABEL)
