"""What a model may be used for, as its package says, and the sentence that tells people so."""

from __future__ import annotations

from enum import StrEnum


class IntendedUse(StrEnum):
    """What a package's ``intended_use`` may say. A package that says nothing has none of these."""

    DEMONSTRATION = "demonstration"
    """Shows how the program works; trained on nothing that tells of real slides."""
    BENCHMARK = "benchmark"
    """Random weights: measures time and memory, and nothing else."""
    RESEARCH = "research"
    CLINICAL = "clinical"
    """Made and tested for it by whoever made the model; this program adds nothing to that claim."""


_CLAIMS = {
    IntendedUse.DEMONSTRATION: "demonstration model: scores mean nothing on real slides; not for diagnosis",
    IntendedUse.BENCHMARK: "benchmark model with random weights: scores mean nothing; not for diagnosis",
    IntendedUse.RESEARCH: "research model: not for diagnosis",
    IntendedUse.CLINICAL: "clinical model, as its package says: only for what it was tested on; "
    "this program is no medical device",
}


def claim_of(intended_use: str | None) -> str:
    """What is to be said of the scores of a model, in one sentence without a capital or a full stop.

    Parameters
    ----------
    intended_use
        As in `ModelPackage.intended_use`, or as a result file holds it, which may be of a later version that knows
        other words; None or an empty text where nothing is said.

    Returns
    -------
    str
        Empty where nothing is said. Run, `info`, pictures and reports all show this sentence.
    """
    if not intended_use:
        return ""
    return _CLAIMS[IntendedUse(intended_use)] if intended_use in set(IntendedUse) else f"{intended_use} model"


def scores_mean_nothing(intended_use: str | None) -> bool:
    """Whether nobody may conclude anything from the scores, so that whoever looks at them has to be warned."""
    return intended_use in {IntendedUse.DEMONSTRATION, IntendedUse.BENCHMARK}
