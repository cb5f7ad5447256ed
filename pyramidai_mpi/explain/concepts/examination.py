"""Concepts of all patches against one layer: which patches count, and what chance draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.explain.concepts.sensitivity import examine

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.explain.concepts.sensitivity import Finding

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

LEAST_PATIENTS = 3
"""With fewer there is nobody to hold out but one, and no interval."""

_DRAWS, _SHUFFLES = 1, 2
"""What streams of random numbers are for."""


@dataclass(frozen=True)
class Chance:
    """How much is drawn.

    Attributes
    ----------
    seed
        Of all of it: what is drawn for a concept follows from this and the concept's number alone.
    n_shuffles
        Shuffled concepts, for the control.
    n_draws
        Draws of patients with replacement, for the intervals.
    """

    seed: int
    n_shuffles: int
    n_draws: int

    def shuffles(self, concept: int, n_patches: int) -> Ints:
        """Orders of the patches, int64 (n_shuffles, n_patches)."""
        stream = self._stream(_SHUFFLES, concept)
        orders = [stream.permutation(n_patches) for _ in range(self.n_shuffles)]
        return np.asarray(orders, np.int64).reshape(self.n_shuffles, n_patches)

    def draws(self, n_patients: int) -> Ints:
        """How often each patient is in each draw, int64 (n_draws, n_patients)."""
        drawn = self._stream(_DRAWS, 0).integers(n_patients, size=(self.n_draws, n_patients))
        flat = drawn + np.arange(self.n_draws)[:, None] * n_patients
        return np.bincount(flat.ravel(), minlength=self.n_draws * n_patients).reshape(self.n_draws, n_patients)

    def _stream(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([self.seed, purpose * 2**32 + number], np.uint64)))


def examined(
    activations: npt.NDArray[np.floating],
    gradients: npt.NDArray[np.floating],
    values: Floats,
    patients: Ints,
    folds: Ints,
    chance: Chance,
    concept: int,
) -> Finding | None:
    """What `sensitivity.examine` finds with the patches that have a value.

    Parameters
    ----------
    values
        float64 (N,); NaN where the concept could not be measured.
    concept
        The concept's number, which its shuffles follow from.

    Returns
    -------
    Finding or None
        None where fewer than `LEAST_PATIENTS` patients have values, all of them lie in one fold, or the values do not
        vary.
    """
    has = np.flatnonzero(np.isfinite(values))
    if not len(has):
        return None
    _, patient = np.unique(patients[has], return_inverse=True)
    _, fold = np.unique(folds[has], return_inverse=True)
    spread = float(np.ptp(values[has]))
    if patient.max() + 1 < LEAST_PATIENTS or fold.max() < 1 or spread <= 1e-9 * float(np.abs(values[has]).max()):
        return None
    return examine(
        activations[has],
        gradients[has],
        values[has],
        patient.ravel().astype(np.int64),
        fold.ravel().astype(np.int64),
        chance.shuffles(concept, len(has)),
        chance.draws(int(patient.max()) + 1),
    )
