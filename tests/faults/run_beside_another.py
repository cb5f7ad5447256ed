"""The real command, beside a run that stops at a slide on one host: run_beside_another.py STEM ARGUMENTS...

On a host that keeps a journal for rank 0's, the one of another run lies there by the time that this slide begins. Tiles
take their time, so that the slide is not complete before that is known.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from pyramidai_mpi.analyses.classify import SlideClassifier
from pyramidai_mpi.cli.main import main
from pyramidai_mpi.run.own_disks import JournalDisks
from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.store.journal.manifest import Manifest

real, real_look = JournalDisks.begin, SlideClassifier.look


def begin(self: JournalDisks, slide: int, manifest: bytes) -> Any:
    """Begin after the other run."""
    output = self._each[slide].output.path
    if self.ranks.leads_elsewhere and output.stem == sys.argv[1]:
        JournalFolder.of(output).create(Manifest("ab" * 32, {}, word="cd" * 8))
    return real(self, slide, manifest)


def look(self: SlideClassifier, tiles: Any, *others: Any) -> Any:
    """Look slowly."""
    time.sleep(0.005 * len(tiles))
    return real_look(self, tiles, *others)


JournalDisks.begin = begin  # type: ignore[method-assign]
SlideClassifier.look = look  # type: ignore[method-assign]
main(sys.argv[2:])
