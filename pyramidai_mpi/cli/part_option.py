"""The option ``--part`` of the commands that array jobs call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

    from pyramidai_mpi.base.part import Part
    from pyramidai_mpi.base.settings import RunSettings

log = logging.getLogger(__name__)

PART_HELP = (
    "Do part I of N, for array jobs: of one slide every N-th tile of the lowest resolution and all under it, into "
    "OUT.part-I-of-N.h5, for pyramidai merge to join; of several (a folder, pattern, list) every N-th slide."
)


def check_exports(comm: MPI.Intracomm, formats: Sequence[object], *, is_cohort: bool) -> None:
    """See that no exports are asked for of a part of one slide. Collective.

    Raises
    ------
    UsageError
        On all ranks.
    """
    from pyramidai_mpi.ranks.collectives import agree

    wrong = None
    if formats and not is_cohort:
        wrong = UsageError("--export: a part of a slide has none; make them of the result that pyramidai merge joins")
    agree(comm, wrong)


def leave_without_slides(comm: MPI.Intracomm, each: Sequence[RunSettings], part: Part) -> bool:
    """Whether there are fewer slides than parts and none is this part's; rank 0 says so. Collective.

    Raises
    ------
    InputError
        On all ranks, when not all see the same slides.
    """
    from pyramidai_mpi.ranks.alike import agree_alike

    agree_alike(comm, {"slides": [settings.slide.path.name for settings in each]})
    if not each and comm.rank == 0:
        log.info("%s has no slide: there are fewer slides than parts, and nothing is to be done", part.words)
    elif comm.rank == 0 and each[0].output.share is not None:
        log.info("%s: %s", part.words, counted(len(each), "slide"))
    return not each
