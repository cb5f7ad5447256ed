"""What is said of an explanation wherever it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.intended_use import claim_of

if TYPE_CHECKING:
    from pyramidai_mpi.store.explanations.contents import Explanation

CAVEAT = "An attribution tells what the network's score hangs on by this method; it is no evidence of what is there."


def title_of(explanation: Explanation) -> str:
    """Method, class, level and layer in a few words."""
    layer = f", layer {explanation.layer}" if explanation.layer else ""
    return f"{explanation.method} for {explanation.class_name} at level {explanation.level}{layer}"


def sentences_of(explanation: Explanation) -> str:
    """The title, what an attribution is not, and what the model may be used for."""
    claim = claim_of(explanation.model.intended_use)
    said = f"{claim[:1].upper()}{claim[1:]}." if claim else ""
    return " ".join(filter(None, [f"{title_of(explanation)}.", CAVEAT, said]))
