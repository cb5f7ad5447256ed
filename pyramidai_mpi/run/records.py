"""What a run of many slides leaves beside the results: ``summary.csv`` and ``run_metadata_<time>.json``."""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyramidai_mpi import __version__
from pyramidai_mpi.base.errors import OutputExistsError, StorageError
from pyramidai_mpi.base.names import name_of
from pyramidai_mpi.process.host import cpu_description, git_revision, library_versions
from pyramidai_mpi.run.deciding import facts_asked, values_of
from pyramidai_mpi.run.facts import Kind
from pyramidai_mpi.run.summary_table import SummaryTable, status_of, summary_name
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.run.report import RunReport, SlideOutcome

METADATA_FORMAT = "pyramidai-run-metadata/1"

_MOST_OF_ONE_SECOND = 100


class CohortRecords:
    """The two files of one run, on rank 0. A disk that fails stops neither the run nor the results.

    Parameters
    ----------
    folder
        Of the results.
    each
        Settings of every slide's run.

    Attributes
    ----------
    error
        What kept a file from being written; None as long as all went well.
    """

    def __init__(self, folder: Path, each: Sequence[RunSettings]) -> None:
        self.error: StorageError | OutputExistsError | None = None
        self._folder = folder
        self._each = each
        self._outcomes: dict[Path, SlideOutcome] = {}
        self._started, self._began = datetime.now(UTC), time.monotonic()
        self._table: SummaryTable | None = None
        self._metadata: Path | None = None
        self._facts: dict[str, Any] = {}

    def begin(self, package: ModelPackage, ranks: npt.NDArray[np.void]) -> None:
        """The model is loaded and the slides are next; `ranks` are `RANK_DTYPE` records."""
        common = self._each[0]
        self._table = SummaryTable(
            self._folder / summary_name(common.output.share),
            self._each,
            package.n_levels,
            () if package.aggregator is None else package.aggregator.classes,
        )
        facts = facts_asked(common, package)
        self._facts = {
            "command_line": common.output.command_line,
            "software_version": __version__,
            "git_revision": git_revision(),
            "python": platform.python_version(),
            "libraries": library_versions(),
            "cpu": cpu_description(),
            "n_ranks": len(ranks),
            "ranks_of_host": dict(sorted(Counter(host.decode() for host in ranks["host"].tolist()).items())),
            "model": {"name": package.name, "folder": name_of(common.model.path), **values_of(facts, Kind.MODEL)},
            "settings": {**_other_settings(common), **values_of(facts, Kind.SETTING)},
        }
        self._keep(self._begin_metadata)

    def slide_ended(self, outcome: SlideOutcome) -> None:
        """A slide has its result, or will have none."""
        self._outcomes[outcome.settings.output.path] = outcome
        if self._table is not None:
            self._table.put(outcome)
            self._keep(self._table.write)

    def end(self, exit_code: int, report: RunReport | None = None) -> None:
        """The run is over; without a report it was stopped. Does nothing where it had not begun."""
        if self._table is None:
            return
        self._keep(self._table.write_for_good)
        self._facts["busiest_over_ideal"] = None if report is None else report.balance
        self._keep(lambda: self._write_metadata(exit_code))

    def _keep(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (StorageError, OutputExistsError) as error:
            self.error = self.error or error

    def _begin_metadata(self) -> None:
        share = self._each[0].output.share
        stem = f"run_metadata_{self._started:%Y%m%dT%H%M%SZ}{'' if share is None else share.suffix}"
        for number in range(_MOST_OF_ONE_SECOND):
            path = self._folder / (f"{stem}_{number}.json" if number else f"{stem}.json")
            try:
                with placed(path) as temporary:
                    temporary.write_text(self._text(None), encoding="ascii")
            except OutputExistsError:
                if number == _MOST_OF_ONE_SECOND - 1:
                    raise
            else:
                self._metadata = path
                return

    def _write_metadata(self, exit_code: int) -> None:
        if self._metadata is not None:
            with placed(self._metadata, overwrite=True) as temporary:
                temporary.write_text(self._text(exit_code), encoding="ascii")

    def _text(self, exit_code: int | None) -> str:
        """The document; `exit_code` is None as long as the run goes on."""
        ended = None if exit_code is None else datetime.now(UTC)
        document = {
            "format": METADATA_FORMAT,
            "started": self._started.isoformat(timespec="seconds"),
            "ended": None if ended is None else ended.isoformat(timespec="seconds"),
            "seconds": None if ended is None else time.monotonic() - self._began,
            "exit_code": None if exit_code is None else int(exit_code),
            **self._facts,
            "slides": [self._facts_of(settings) for settings in self._each],
        }
        return json.dumps(document, indent=1) + "\n"  # ASCII: names that cannot be printed are escaped

    def _facts_of(self, settings: RunSettings) -> dict[str, Any]:
        outcome = self._outcomes.get(settings.output.path)
        account = None if outcome is None else outcome.account
        return {
            "slide": settings.slide.path.name,
            "output": settings.output.path.name,
            "given_mpp": settings.slide.mpp,
            "quickhash": None if account is None else account.quickhash,
            "digest": None if account is None else account.digest,
            "status": "unfinished" if outcome is None else status_of(outcome),
        }


def _other_settings(common: RunSettings) -> dict[str, Any]:
    """What all slides share, beside what decides their results; a backend that is left to the program is ``auto``."""
    parts: list[tuple[object, tuple[str, ...]]] = [
        (common.schedule, ("policy", "seed", "batch_size", "read_ahead")),
        (common.slide, ("allow_upsampling", "reader")),
        (common.model, ("backend",)),
        (common.output, ("overwrite", "resume", "accept_mixed")),
    ]
    share = common.output.share
    return {
        **({} if share is None else {"part": str(share)}),
        **{name: getattr(part, name) for part, names in parts for name in names},
        "slide_sha256": common.slide.sha256,
    }
