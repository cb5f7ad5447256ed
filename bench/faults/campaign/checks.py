"""What was seen of a trial, and what of that is wrong: plain values in, findings out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.faults.campaign.faults import BUSY, ENDS, OF_OTHER_THINGS, STOPPED, Fault, allowed_codes
from bench.faults.slowed_ranks import BATCH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.faults.campaign.works import Kind, Undisturbed

NOT_JUDGED = "not judged"
WRONGS = ("lost", "changed", "double", "hung", "wrong code", "litter", NOT_JUDGED)
"""The last: the campaign itself has met an error."""


@dataclass(frozen=True)
class Wrong:
    """One finding: which of `WRONGS`, and what."""

    what: str
    text: str


@dataclass(frozen=True)
class SeenStart:
    """One start of the work, as it was once nothing of it was alive.

    Attributes
    ----------
    fault
        None where it was let through.
    hit
        The phase in which the fault came; empty when it came too late.
    codes
        Exit codes of the runs, mostly one; None of one that had to be ended.
    stacks
        Of what had to be ended: all that it said.
    done, last
        Pieces that were done; of these, how many were of the last batches of all processes, which need not be known.
    known_before, known_after
        Pieces that were known before and after it, by results or journals; None for trainings.
    found
        Digest, or what is wrong, of each result that is there.
    before
        Names of the results that were there before.
    has_failed
        Whether a call of the disk was made to fail.
    """

    fault: Fault | None
    hit: str
    codes: Sequence[int | None]
    stacks: str = ""
    done: int = 0
    last: int = 0
    known_before: int | None = None
    known_after: int | None = None
    found: Mapping[str, str] = field(default_factory=dict)
    before: frozenset[str] = frozenset()
    has_failed: bool = False


def wrongs_of_start(seen: SeenStart, kind: Kind, undisturbed: Undisturbed) -> list[Wrong]:
    """What is wrong with a start."""
    found = []
    name = "the start that nothing disturbed" if seen.fault is None else f"{seen.fault.kind} while {seen.hit or '-'}"
    if seen.stacks:
        found.append(Wrong("hung", f"after {name}:\n{seen.stacks}"))
    for output, digest in seen.found.items():
        if digest != undisturbed.digests[output]:
            found.append(Wrong("changed", f"{output}: {digest} instead of {undisturbed.digests[output]} after {name}"))
    found += [Wrong("lost", f"{output} is gone after {name}") for output in sorted(seen.before - set(seen.found))]
    if seen.known_before is not None and seen.known_after is not None:
        not_known = seen.done - (seen.known_after - seen.known_before)
        at_most = 0 if hits_the_end(seen) and len(undisturbed.digests) == 1 else seen.last
        if not_known > at_most:
            found.append(Wrong("lost", f"{not_known} of {seen.done} pieces that were done are not known after {name}"))
        if not_known < 0:
            found.append(Wrong("double", f"{-not_known} pieces more are known than were done, after {name}"))
    found += _wrong_codes(seen, kind, undisturbed, name)
    return found


def _wrong_codes(seen: SeenStart, kind: Kind, undisturbed: Undisturbed, name: str) -> list[Wrong]:
    codes = [code for code in seen.codes if code is not None]
    is_complete = set(seen.found) == set(undisturbed.digests)
    was_complete = seen.before == set(undisturbed.digests)
    allowed = allowed_codes(
        seen.fault if seen.hit else None,
        kind.success,
        is_cohort=len(undisturbed.digests) > 1,
        has_failed=seen.has_failed,
        hit=seen.hit,
    )
    if kind.trains and was_complete and allowed is not None:
        allowed = allowed | {BUSY}  # it is there, and a training does not say so otherwise
    found = []
    for code in codes:
        if code == kind.success:
            is_right = is_complete or is_race(seen)
        elif allowed is not None:
            is_right = code in allowed
        else:
            others = OF_OTHER_THINGS - ({STOPPED} if seen.fault and seen.fault.kind.startswith("SIG") else set())
            is_right = code != 0 and code not in others
        if not is_right:
            found.append(Wrong("wrong code", f"{code} after {name}, results {sorted(seen.found)}"))
    if is_race(seen) and kind.success in codes and not is_complete:
        found.append(Wrong("wrong code", f"{codes} after {name}, results {sorted(seen.found)}"))
    if is_race(seen) and not set(codes) - {BUSY} and len(codes) == len(seen.codes):
        found.append(Wrong("wrong code", f"{codes}: none of the runs went on"))
    return found


def hits_the_end(seen: SeenStart) -> bool:
    """Whether the fault came when all of a slide was analysed: no batch was under way any more."""
    return seen.hit in ENDS and not seen.has_failed


def is_race(seen: SeenStart) -> bool:
    """Whether several runs were started at once."""
    return len(seen.codes) > 1


def wrongs_at_the_end(
    starts: Sequence[SeenStart], undisturbed: Undisturbed, names: Sequence[str], ranks: int
) -> list[Wrong]:
    """What is wrong once the work was let through to its end.

    Parameters
    ----------
    starts
        All starts, the last of which nothing disturbed.
    names
        Of all that is left.
    """
    found = [
        Wrong("lost", f"{output} is missing in the end")
        for output in undisturbed.digests
        if output not in starts[-1].found
    ]
    again = sum(start.done for start in starts) - undisturbed.done
    at_most = (undisturbed.most_again or BATCH * ranks) * sum(start.fault is not None for start in starts)
    if again > at_most:
        found.append(Wrong("double", f"{again} pieces were done again, {at_most} may be"))
    if again < 0:
        found.append(Wrong("lost", f"{-again} pieces of {undisturbed.done} were never done"))
    if litter := sorted(set(names) - set(undisturbed.names)):
        found.append(Wrong("litter", f"left: {', '.join(litter)}"))
    if missing := sorted(set(undisturbed.names) - set(names)):
        found.append(Wrong("lost", f"missing: {', '.join(missing)}"))
    return found
