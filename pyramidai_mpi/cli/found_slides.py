"""What the words of a command line stand for: slides, the results' files and the model."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.run.selection import Selection, SlideEntry, plan_outputs, select_slides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

    from pyramidai_mpi.base.hosts import Hosts
    from pyramidai_mpi.base.part import Part
    from pyramidai_mpi.base.settings import RunSettings


@dataclass(frozen=True)
class FoundSlides:
    """What they stand for on this host."""

    entries: tuple[SlideEntry, ...]
    n_slides: int
    outputs: tuple[Path, ...]
    is_cohort: bool
    model: Path
    part: Part | None = None

    @classmethod
    def by(
        cls,
        selection: Selection,
        model: Path,
        output: Path | None,
        results_dir: Path | None,
        part: Part | None = None,
    ) -> FoundSlides:
        """Plan the results' files; of several slides, only those of the part count.

        Raises
        ------
        UsageError
            There are several slides for one result.
        """
        entries, n_slides = selection.entries, len(selection.entries)
        if output is not None and selection.is_cohort:
            raise UsageError("-o names the result of a single slide; use --results-dir for those of several")
        names = [entry.name for entry in entries]
        outputs = plan_outputs([entry.slide for entry in entries], output, results_dir, names)
        if part is not None and selection.is_cohort:
            entries, outputs = tuple(part.share(entries)), [*part.share(outputs)]
        elif part is not None:
            outputs = [part.name_of(path) for path in outputs]
        return cls(entries, n_slides, tuple(outputs), selection.is_cohort, model, part)

    def settings(self, asked: RunSettings) -> list[RunSettings]:
        """Settings of every slide's run.

        Raises
        ------
        UsageError
            What is asked cannot be of several slides, or not with what the table says.
        """
        if self.is_cohort and asked.output.writer == "mpio":
            raise UsageError("--writer mpio is for a single slide: of several, each is written by its owner")
        asked.slide.regions.check_for_several(self.n_slides)
        share, part = (self.part, None) if self.is_cohort else (None, self.part)
        return [
            replace(
                asked.with_model(path=self.model).with_output(path=path, leave_finished=self.is_cohort, share=share),
                slide=replace(asked.slide, path=entry.slide, mpp=entry.mpp or asked.slide.mpp, part=part),
            )
            for entry, path in zip(self.entries, self.outputs, strict=True)
        ]


def find_slides(comm: MPI.Intracomm, words: Sequence[Path], table: Path | None, hosts: Hosts) -> Selection:
    """The slides that a command line names, as each rank sees them, or as rank 0 does which sends them. Collective.

    Raises
    ------
    UsageError, InputError
        On all ranks, see `select_slides`.
    """
    from pyramidai_mpi.ranks.collectives import on_all, on_rank0, share_bytes

    if not hosts.send_slide:
        return on_all(comm, lambda: select_slides(words, table))
    found = on_rank0(comm, lambda: select_slides(words, table))
    told = None
    if found is not None:
        entries = [(os.fspath(one.slide), one.mpp, one.name) for one in found.entries]
        told = json.dumps([entries, found.is_cohort]).encode()
    entries, is_cohort = json.loads(share_bytes(comm, told))
    return Selection(tuple(SlideEntry(Path(slide), mpp, name) for slide, mpp, name in entries), is_cohort)


def find_model_of_run(comm: MPI.Intracomm, asked: Path | None, hosts: Hosts) -> Path:
    """Folder of the model as each rank sees it, or as rank 0 does which sends it. Collective.

    Raises
    ------
    InputError
        On all ranks, see `find_model`.
    """
    from pyramidai_mpi.models.shipped import find_model
    from pyramidai_mpi.ranks.collectives import on_all, on_rank0, share_bytes

    if not hosts.send_slide or asked is None:
        return on_all(comm, lambda: find_model(asked))
    found = on_rank0(comm, lambda: find_model(asked))
    return Path(os.fsdecode(share_bytes(comm, None if found is None else os.fsencode(found))))
