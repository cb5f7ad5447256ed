"""``summary.csv``: one row a slide, true at every moment of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.base.names import without_folders
from pyramidai_mpi.store.files.placing import check_target, discard, placed, storage_errors, temporary_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.base.part import Part
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.run.report import SlideOutcome

SUMMARY_NAME = "summary.csv"

_COLUMNS = (
    "slide",
    "output",
    "status",
    "reason",
    "tiles",
    "positives",
    "unreadable",
    "seconds",
    "busiest_over_ideal",
    "digest",
)


def summary_name(share: Part | None) -> str:
    """Name of the table, of a run that does a part of the slides that part's own."""
    return SUMMARY_NAME if share is None else share.name_of(Path(SUMMARY_NAME)).name


def check_summary(path: Path, *, overwrite: bool, inputs: Sequence[Path]) -> None:
    """See before the work that the table can be written: what lies there is one of ours, or may be replaced.

    Raises
    ------
    UsageError, OutputExistsError, StorageError
        As `placing.check_target`.
    """
    check_target(path, overwrite=overwrite or _is_ours(path), inputs=inputs)


def _is_ours(path: Path) -> bool:
    head = ",".join(_COLUMNS).encode()
    try:
        with path.open("rb") as file:
            return file.read(len(head)) == head
    except OSError:
        return False


class SummaryTable:
    """The table of one run.

    Columns are ``slide``, ``output`` (both without folders), ``status`` (``complete``; ``tiles_unreadable``: complete
    but for those; ``skipped``: an earlier start had finished it; ``failed``; ``unfinished``), ``reason``, ``tiles`` of
    all levels, ``positives`` of level 0, ``unreadable``, ``seconds`` from opening to writing (slides overlap),
    ``busiest_over_ideal`` where it is known (of a slide that had the ranks for itself), ``digest``, and
    ``tiles_level_0`` and so on, in mm² ``tissue_mm2`` and ``positive_mm2`` (within positive tiles of level 0), and
    ``warning``: what of the slide was not looked at; of a model that predicts slides then ``prediction_<class>`` for
    each of its aggregator's classes. What is unknown is empty. Characters that cannot be printed are escaped.

    Parameters
    ----------
    path
        Its file.
    each
        Settings of every slide's run.
    n_levels
        Of the model.
    predicted
        Classes of the model's aggregator.
    """

    def __init__(self, path: Path, each: Sequence[RunSettings], n_levels: int, predicted: Sequence[str] = ()) -> None:
        self.path = path
        last = [*(f"tiles_level_{n}" for n in range(n_levels)), "tissue_mm2", "positive_mm2", "warning"]
        last += [f"prediction_{name}" for name in predicted]
        self._n_predicted = len(predicted)
        self._n_cells = len(_COLUMNS) + len(last)
        self._head = _line([*_COLUMNS, *last])
        self._number = {settings.output.path: number for number, settings in enumerate(each)}
        blank = [""] * (self._n_cells - 3)
        self._lines = [_line([one.slide.path.name, one.output.path.name, "unfinished", *blank]) for one in each]

    def put(self, outcome: SlideOutcome) -> None:
        """Take in how a slide ended."""
        account = outcome.account
        cells = [outcome.settings.slide.path.name, outcome.settings.output.path.name, *_status(outcome)]
        if account is None:
            cells += [""] * (self._n_cells - len(cells))
        else:
            cells += [
                str(sum(account.tiles)),
                str(account.positives),
                str(account.unreadable),
                "" if account.seconds is None else f"{account.seconds:.3f}",
                "" if account.balance is None else f"{account.balance:.4f}",
                account.digest,
                *map(str, account.tiles),
                f"{account.tissue_mm2:.4f}",
                f"{account.positive_mm2:.4f}",
                account.warning,
                # nine digits give back every float32
                *([f"{value:.9g}" for value in account.prediction] or [""] * self._n_predicted),
            ]
        self._lines[self._number[outcome.settings.output.path]] = _line(cells)

    def write(self) -> None:
        """Replace the file in one step, for readers of this moment: the disk may still lose it.

        Raises
        ------
        StorageError
            When it cannot be written.
        """
        temporary = temporary_name(self.path)
        try:
            with storage_errors(self.path):
                temporary.write_text(self._text(), encoding="utf-8")
                temporary.replace(self.path)
        finally:
            discard(temporary)

    def write_for_good(self) -> None:
        """Replace the file in one step and flush it to the disk.

        Raises
        ------
        StorageError
            When it cannot be written.
        """
        with placed(self.path, overwrite=True) as temporary:
            temporary.write_text(self._text(), encoding="utf-8")

    def _text(self) -> str:
        return "".join([self._head, *self._lines])


def status_of(outcome: SlideOutcome) -> str:
    """A word for how a slide ended."""
    if not outcome.is_complete:
        return "failed"
    if outcome.was_finished:
        return "skipped"
    return "tiles_unreadable" if outcome.account is not None and outcome.account.unreadable else "complete"


def _status(outcome: SlideOutcome) -> tuple[str, str]:
    """Status and reason."""
    status, account = status_of(outcome), outcome.account
    if status == "failed":
        return status, without_folders(outcome.line, outcome.settings.paths())
    reasons = ["finished by an earlier start"] if status == "skipped" else []
    if account is not None and account.unreadable:
        reasons.append(f"{account.unreadable} unreadable tiles, listed in the result")
    if account is not None and not sum(account.tiles):
        reasons.append("no tissue found")
    return status, "; ".join(reasons)


def _line(cells: Sequence[str]) -> str:
    return csv_row(cells)
