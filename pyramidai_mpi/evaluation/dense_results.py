"""Results of runs with strides, slide by slide, beside their truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.evaluation.dense import coarser_maps, evaluate_maps
from pyramidai_mpi.evaluation.lesions import lesions_of
from pyramidai_mpi.store.results.dense import count_windows, read_dense_map
from pyramidai_mpi.store.results.reader import CheckedResult
from pyramidai_mpi.store.results.tables import read_header, read_mask_rows, read_mode
from pyramidai_mpi.truth.labels import doubts
from pyramidai_mpi.truth.truth import read_truth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.evaluation.dense import DenseSlide
    from pyramidai_mpi.evaluation.slide import DetectionRule
    from pyramidai_mpi.pyramid.dense_map import DenseMap
    from pyramidai_mpi.store.results.tables import Header
    from pyramidai_mpi.truth.truth import TruthOptions


@dataclass(frozen=True)
class DenseRun:
    """What a result says of its windows, without its scores.

    Attributes
    ----------
    file
        The result, checked.
    quickhash
        Of the slide.
    level_sha256
        Hashes of the networks, level 0 first.
    mode
        How the run went through the levels.
    strides
        See `strides_of`.
    has_strides
        Whether a stride was asked for; else windows lie side by side.
    """

    file: CheckedResult
    quickhash: str
    level_sha256: tuple[str, ...]
    mode: Mode
    strides: tuple[int, ...]
    has_strides: bool

    @property
    def path(self) -> Path:
        """The result file."""
        return self.file.path

    @property
    def is_whole(self) -> bool:
        """Whether all windows of its stride were looked at."""
        return self.mode is not Mode.PYRAMID and len(self.strides) == 1

    @property
    def name(self) -> str:
        """Which map it is, in words, the same for all slides of a cohort."""
        return name_of_map(self.strides, self.mode)


def name_of_map(strides: Sequence[int], mode: Mode) -> str:
    """Which map a run with these strides gives, in words."""
    stride = f"stride {strides[0]}" if len(strides) == 1 else f"adaptive, stride {strides[0]}"
    return f"{stride}, below the pyramid" if mode is Mode.PYRAMID else stride


def read_dense_run(path: Path) -> DenseRun:
    """See which windows a result is of.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    checked = CheckedResult.check(path)
    with checked.open() as file:
        header, mode = read_header(file), read_mode(file)
    return DenseRun(
        checked,
        header.slide.quickhash,
        header.model.level_sha256,
        mode,
        strides_of(header),
        header.levels[0].cell is not None,
    )


def strides_of(header: Header) -> tuple[int, ...]:
    """Strides that a run looks at once its tiles are blocks of windows, in pixels of level 0, the finest first.

    Several are steps of an adaptive run. A run without blocks has windows side by side, or a little closer.
    """
    finest = header.levels[0]
    blocks = {level.cell for level in header.levels if level.block > 1 and level.cell is not None}
    return tuple(sorted(blocks)) or (finest.cell or header.model.tile_size,)


def group_dense_runs(runs: Sequence[DenseRun]) -> tuple[tuple[DenseRun, ...], ...]:
    """Put the results of the same slide together, by its quick hash, in order of appearance.

    Raises
    ------
    UsageError
        When two results of one slide are of the same kind.
    InputError
        When they are not all of one model.
    """
    by_slide: dict[str, dict[str, DenseRun]] = {}
    for run in runs:
        if run.level_sha256 != runs[0].level_sha256:
            raise InputError(f"{run.path}: is of another model than {runs[0].path}; evaluate one model at a time")
        named = by_slide.setdefault(run.quickhash, {})
        if other := named.get(run.name):
            raise UsageError(f"{other.path} and {run.path} are both runs of one slide at {run.name}; give one of them")
        named[run.name] = run
    return tuple(tuple(named.values()) for named in by_slide.values())


def evaluate_dense_runs(
    runs: Sequence[DenseRun],
    truth: Path,
    rule: DetectionRule,
    strides: Sequence[int] = (),
    options: TruthOptions | None = None,
) -> DenseSlide:
    """Judge the maps of one slide's results.

    A whole map of one stride also tells what coarser strides would have found, and is what all others are compared
    with; of several, that of the finest stride. Where a coarser stride has a run of its own, that is taken.

    Parameters
    ----------
    runs
        A group of `group_dense_runs`.
    truth
        Folder or file, see `truth.read_truth`.
    rule
        How places are picked.
    strides
        Coarser strides to tell of; none: see `evaluation.dense.coarser_maps`.
    options
        How the truth is read.

    Raises
    ------
    InputError
        When a result or the truth cannot be used, or results cut the slide into cells that do not nest.
    UsageError
        When strides are asked for that the finest whole map does not divide, or without a whole map.
    """
    maps: dict[str, DenseMap] = {}
    n_windows: dict[str, int] = {}
    whole = min((run for run in runs if run.is_whole), key=lambda run: run.strides, default=None)
    if whole is None and strides:
        raise UsageError(
            f"--stride {strides[0]}: {runs[0].path} has not looked everywhere at one stride; give the result of a run "
            "with --mode reference and a stride that divides it"
        )
    reference = None
    if whole is not None:
        reference, n_windows[whole.name] = _read_map(whole)
        maps |= coarser_maps(reference, strides)
    for run in runs:
        if run is not whole:
            maps[run.name], n_windows[run.name] = _read_map(run)
    if len({dense.downsample for dense in maps.values()}) > 1:
        raise InputError(f"{runs[0].path}: has windows of another size than other results of its slide; use one --mpp")
    if reference is not None and whole is not None:
        for run in runs:
            if run.strides[0] % reference.cell:
                raise InputError(
                    f"{run.path}: has windows at every {run.strides[0]} px, which are not among those of every "
                    f"{reference.cell} px in {whole.path}; evaluate them one by one"
                )
    with runs[0].file.open() as file:
        header = read_header(file)
        mask = read_mask_rows(file, 0, header.mask_shape[0])
    slide = header.slide
    found = read_truth(truth, slide.name, slide.l0_size, options, slide.l0_bounds)
    covered = found.coverage((mask.shape[0], mask.shape[1]), header.mask_downsample)
    lesions = lesions_of(found, slide.l0_size, slide.mpp)
    notes = (*found.notes, *doubts(mask, covered))
    has_tumor = bool(covered.any())
    judged = evaluate_maps(slide.name, has_tumor, lesions, maps, rule, reference, notes)
    counted = (replace(one, n_windows=n_windows.get(one.name, one.n_windows)) for one in judged.maps)
    return replace(judged, maps=tuple(counted))


def _read_map(run: DenseRun) -> tuple[DenseMap, int]:
    """The map of a result, and how many windows its run looked at."""
    with run.file.open() as file:
        return read_dense_map(file), count_windows(file)
