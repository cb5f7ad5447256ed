"""What the words of a command line stand for: slides, the results' files and the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.run.selection import plan_outputs, select_slides

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.base.part import Part
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.run.selection import SlideEntry


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
        slides: Sequence[Path],
        table: Path | None,
        output: Path | None,
        results_dir: Path | None,
        model: Path | None,
        part: Part | None = None,
    ) -> FoundSlides:
        """Look; of several slides, only those of the part count.

        Raises
        ------
        UsageError, InputError
            There is no slide, no model, or there are several slides for one result.
        """
        from pyramidai_mpi.models.shipped import find_model

        selection = select_slides(slides, table)
        entries, n_slides = selection.entries, len(selection.entries)
        if output is not None and selection.is_cohort:
            raise UsageError("-o names the result of a single slide; use --results-dir for those of several")
        names = [entry.name for entry in entries]
        outputs = plan_outputs([entry.slide for entry in entries], output, results_dir, names)
        if part is not None and selection.is_cohort:
            entries, outputs = tuple(part.share(entries)), [*part.share(outputs)]
        elif part is not None:
            outputs = [part.name_of(path) for path in outputs]
        return cls(entries, n_slides, tuple(outputs), selection.is_cohort, find_model(model), part)

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
