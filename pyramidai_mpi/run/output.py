"""The output of a slide before the work: one run at a time, nothing replaced unasked, nothing done twice."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import ExitCode, InputError, OutputExistsError, StorageError, input_errors
from pyramidai_mpi.pyramid.tissue import TissueSource
from pyramidai_mpi.run.deciding import check_same, facts_before, is_journal_of, values_in_result
from pyramidai_mpi.run.facts import Fact, Kind
from pyramidai_mpi.run.opening import open_under
from pyramidai_mpi.run.strides import plan_levels_of_run
from pyramidai_mpi.run.tissue_network import method_of
from pyramidai_mpi.slides.identity import slide_quickhash
from pyramidai_mpi.store.files.lock import STALE_AFTER_S, OutputLock
from pyramidai_mpi.store.files.placing import (
    check_length,
    check_no_input,
    check_target,
    stamp_of,
    sweep,
    temporary_name,
)
from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.store.results.reader import read_origin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.run.facts import Difference, Facts
    from pyramidai_mpi.store.files.lock import LockWatch
    from pyramidai_mpi.store.results.reader import ResultOrigin

log = logging.getLogger(__name__)


def lock_output(settings: RunSettings, *, patient: bool, watch: LockWatch | None = None) -> OutputLock:
    """Lock a run's output and see that the run may write there; sweep away what a killed one has left beside it.

    Parameters
    ----------
    patient, watch
        See `OutputLock.take`.

    Raises
    ------
    UsageError
        The output is an input of the run.
    OutputExistsError
        The output or a journal of it is there and the settings do not say what to do, or another run writes it.
    StorageError
        The folder is missing or cannot be written.
    """
    check_output(settings, overwrite=True)  # whether anything may be made there at all
    try:
        check_names(settings)
    except OutputExistsError:
        patient = False  # refused in any case, and a run that is at work is the better reason
    lock = OutputLock.take(settings.output.path, patient=patient, watch=watch)
    try:
        check_names(settings)
        sweep(settings.output.path, silent_s=STALE_AFTER_S)
    except BaseException:
        lock.release()
        raise
    return lock


def check_output(settings: RunSettings, *, overwrite: bool) -> None:
    """Find out before the work whether the result could be placed after it, and would not replace its own input."""
    path = settings.output.path
    check_length(path, max(JournalFolder.of(path).path.name, temporary_name(path).name, key=len))
    check_target(path, overwrite=overwrite, inputs=_inputs(settings))


def _inputs(settings: RunSettings) -> list[Path]:
    network = settings.slide.tissue_network
    given = [*settings.slide.regions.paths().values(), *([] if network is None else [network])]
    return [settings.slide.path, settings.model.path, *given]


def check_names(settings: RunSettings) -> None:
    """See that neither an output nor a journal is in a run's way.

    Raises
    ------
    PyramidError
        As `lock_output`.
    """
    check_output(settings, overwrite=settings.output.overwrite or _is_to_be_replaced(settings))
    folder = JournalFolder.of(settings.output.path)
    if folder.exists and not (settings.output.resume or settings.output.overwrite):
        raise OutputExistsError(
            f"{folder.path}: an earlier run was not finished; go on from it with --resume, or use --overwrite"
        )
    folder.check_rights()


def finished_before(
    settings: RunSettings, package: ModelPackage, is_finished: Callable[[Facts], None] = lambda _facts: None
) -> ExitCode | None:
    """Exit code of a run that an earlier start has finished; None where it has not, or is to be done again.

    Looking at it takes no lock, so that any number of starts may do so. What a kill between the last two steps has left
    (the journal of a result that is in its place) is removed. Of one of several slides, a finished result is left alone
    without being told to, since nothing else can be meant.

    Parameters
    ----------
    is_finished
        Called with the facts of a run that is, before any journal of it is removed.

    Raises
    ------
    UsageError
        The output is an input of the run.
    InputError, OutputExistsError
        The result there is of other inputs or settings.
    """

    def compare() -> tuple[list[Difference], ExitCode, Facts]:
        origin = read_origin(settings.output.path, may_be_part=settings.slide.part is not None)
        facts = _facts_of(settings, package, origin)
        mixed = check_same(
            f"{settings.output.path}: is the finished result of a run with",
            values_in_result(origin),
            facts,
            accept_mixed=settings.output.accept_mixed,
            otherwise="name another output, or replace it with --overwrite",
        )
        return mixed, ExitCode.TILES_FAILED if origin.n_tiles_failed else ExitCode.OK, facts

    return finished_output(settings, compare, is_finished)


def finished_output(
    settings: RunSettings,
    compare: Callable[[], tuple[list[Difference], ExitCode, Facts]],
    is_finished: Callable[[Facts], None],
) -> ExitCode | None:
    """As `finished_before`, of any analysis.

    Parameters
    ----------
    compare
        Sees that the file there is of this very run: what differs though it is, the exit code that it had, and what is
        known of the run's facts. Raises `InputError` where it is not.
    is_finished
        As there.

    Raises
    ------
    PyramidError
        As there.
    """
    output = settings.output
    if output.overwrite or not output.path.is_file() or not (output.resume or output.leave_finished):
        return None
    if _is_to_be_replaced(settings):
        return None
    check_no_input(output.path, _inputs(settings))
    try:
        mixed, code, facts = compare()
        if mixed:
            log.warning("%s: is left as it is, made with other %s", output.path, "; ".join(map(str, mixed)))
    except InputError as error:
        if output.resume:
            raise
        raise OutputExistsError(f"{output.path}: exists already; {error}") from error
    is_finished(facts)
    _tidy(output.path, facts)
    return code


def _tidy(output: Path, facts: Facts) -> None:
    """Remove what killed runs have left beside a finished result, unless a run is at it, or nothing can be removed.

    The journal of a run of other facts stays: one may be there whose ranks did not all see the result (`own_disks`).
    """
    sweep(output)
    folder = JournalFolder.of(output)
    with suppress(OutputExistsError, StorageError):
        if not (folder.exists or OutputLock.is_there(output)):
            return
        lock = OutputLock.take(output)
        try:
            manifest = folder.manifest() if folder.exists else None
            if manifest is None or is_journal_of(manifest, facts):
                folder.remove()
            else:
                log.warning("%s: is the journal of another run than the finished result's, and is left", folder.path)
        finally:
            lock.release()


def _facts_of(settings: RunSettings, package: ModelPackage, origin: ResultOrigin) -> Facts:
    """What decides a run's result, as known before the work; of another slide than the result's, its hash alone."""
    with input_errors(settings.slide.path):
        slide_hash = slide_quickhash(settings.slide.path)
    if slide_hash != origin.quickhash:
        return (Fact("quickhash", "slide", slide_hash, Kind.SLIDE),)
    # needs no trial: it is the file that was analysed
    slide = open_under(settings.slide, package, levels=plan_levels_of_run(settings, package).levels)
    slide.pyramid.reader.close()
    return facts_before(settings, package, slide, source_of(settings))


def source_of(settings: RunSettings) -> TissueSource:
    """How the run's tissue mask would come about, without making it."""
    slide = settings.slide
    if not slide.regions.given:
        return TissueSource(method_of(slide))
    from pyramidai_mpi.run.regions import RegionFiles  # loads shapely

    return RegionFiles.find(slide).source()


def _is_to_be_replaced(settings: RunSettings) -> bool:
    """Whether the file under the output's name is the one that the journal's run was to replace."""
    folder = JournalFolder.of(settings.output.path)
    if not ((settings.output.resume or settings.output.leave_finished) and folder.exists):
        return False
    manifest = folder.manifest()
    return (
        manifest is not None and manifest.replaces is not None and manifest.replaces == stamp_of(settings.output.path)
    )
