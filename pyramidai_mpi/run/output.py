"""Locking an output before the work: one run at a time, nothing replaced unasked, nothing done twice."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import ExitCode, InputError, OutputExistsError, input_errors
from pyramidai_mpi.pyramid.tissue import REGION_ROLES, TissueSource
from pyramidai_mpi.ranks.collectives import on_rank0
from pyramidai_mpi.run.networks import open_package
from pyramidai_mpi.run.opening import check_settings_target, open_job
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.store.files.lock import OutputLock
from pyramidai_mpi.store.files.placing import stamp_of, sweep
from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.store.results.reader import read_origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.store.results.reader import ResultOrigin


@contextmanager
def locked_output(comm: MPI.Intracomm, settings: RunSettings) -> Iterator[None]:
    """Hold a run's output for as long as the run lasts: rank 0 locks it. Collective.

    Raises
    ------
    UsageError, OutputExistsError, StorageError
        On all ranks, as `lock_output`.
    """
    lock = on_rank0(comm, lambda: lock_output(settings, patient=settings.output.resume))
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def lock_output(settings: RunSettings, *, patient: bool) -> OutputLock:
    """Lock a run's output and see that the run may write there; sweep away what a killed one has left beside it.

    Parameters
    ----------
    patient
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
    check_settings_target(settings, overwrite=True)  # whether anything may be made there at all
    lock = OutputLock.take(settings.output.path, patient=patient)
    try:
        check_names(settings)
        sweep(settings.output.path)
    except BaseException:
        lock.release()
        raise
    return lock


def check_names(settings: RunSettings) -> None:
    """See that neither an output nor a journal is in a run's way.

    Raises
    ------
    PyramidError
        As `lock_output`.
    """
    check_settings_target(settings, overwrite=settings.output.overwrite or _is_to_be_replaced(settings))
    folder = JournalFolder.of(settings.output.path)
    if folder.exists and not (settings.output.resume or settings.output.overwrite):
        raise OutputExistsError(
            f"{folder.path}: an earlier run was not finished; go on from it with --resume, or use --overwrite"
        )


def finished_before(settings: RunSettings, package: ModelPackage | None = None) -> ExitCode | None:
    """Exit code of a run that an earlier start has finished, where the settings ask to go on; None where it has not.

    What a kill between the last two steps has left (the journal of a result that is in its place) is removed.

    Parameters
    ----------
    package
        The model, where it is open already.

    Raises
    ------
    InputError
        The result there is of other inputs or settings.
    OutputExistsError
        Another run is at work there.
    """
    if not (settings.output.resume and settings.output.path.is_file()) or _is_to_be_replaced(settings):
        return None
    check_settings_target(settings, overwrite=True)
    lock = OutputLock.take(settings.output.path)
    try:
        origin = read_origin(settings.output.path)
        differing = _differences(settings, package, origin)
        if differing:
            raise InputError(
                f"{settings.output.path}: is the finished result of a run with other {', '.join(differing)}; "
                "name another output, or replace it with --overwrite"
            )
        JournalFolder.of(settings.output.path).remove()
        sweep(settings.output.path)
    finally:
        lock.release()
    return ExitCode.TILES_FAILED if origin.n_tiles_failed else ExitCode.OK


def _differences(settings: RunSettings, package: ModelPackage | None, origin: ResultOrigin) -> list[str]:
    """In what a run differs from that of a finished result, in words."""
    with input_errors(settings.slide.path):
        slide_hash = quickhash(settings.slide.path)
    if slide_hash != origin.quickhash:
        return ["slide"]
    # needs no trial: it is the file that was analysed
    job = open_job(settings, package or open_package(settings.model.path, check_networks=False))
    job.pyramid.reader.close()
    package = job.package
    source = _source_of(settings)
    regions = {file.role: file.sha256 for file in source.files}
    pairs = {
        "µm/px": (job.mpp, origin.mpp),
        "model": (tuple(level.sha256 for level in package.levels), origin.level_sha256),
        "positive class": (package.classes[package.score_column], origin.positive_class),
        "thresholds": (job.thresholds, origin.thresholds),
        "mode": (str(settings.mode), origin.mode),
        "least tissue share": (settings.slide.min_tissue, origin.min_tissue),
        "features": (settings.model.features, origin.has_features),
        "tissue": (source.method, origin.tissue_method),
        **{_said(role): (regions.get(role), origin.region_sha256.get(role)) for role in REGION_ROLES},
    }
    return [name for name, (wanted, found) in pairs.items() if wanted != found]


def _source_of(settings: RunSettings) -> TissueSource:
    """How the run's tissue mask would come about, without making it."""
    if not settings.slide.regions.given:
        return TissueSource()
    from pyramidai_mpi.run.regions import RegionFiles  # loads shapely

    return RegionFiles.find(settings).source()


def _said(role: str) -> str:
    return f"--{role.replace('_', '-')}"


def _is_to_be_replaced(settings: RunSettings) -> bool:
    """Whether the file under the output's name is the one that the journal's run was to replace."""
    folder = JournalFolder.of(settings.output.path)
    if not (settings.output.resume and folder.exists):
        return False
    manifest = folder.manifest()
    return (
        manifest is not None and manifest.replaces is not None and manifest.replaces == stamp_of(settings.output.path)
    )
