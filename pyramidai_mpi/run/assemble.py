"""From the ranks' predictions to one result in memory, on rank 0 or on a slide's owner."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import MOST_LEVELS
from pyramidai_mpi.process.host import cpu_description, host_name
from pyramidai_mpi.process.memory import peak_resident_bytes
from pyramidai_mpi.pyramid.tissue import mask_downsample
from pyramidai_mpi.pyramid.tree import build_tree
from pyramidai_mpi.ranks.collectives import gather_records, share_bytes
from pyramidai_mpi.store.results.result import (
    Execution,
    LevelRecord,
    ModelRecord,
    Result,
    SlideRecord,
    TissueRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.sched import Stats

log = logging.getLogger(__name__)

_MOST_FAILED_LISTED = 20

RANK_DTYPE = np.dtype(
    [
        ("rank", "<i4"),
        ("host", "S64"),
        ("cpu", "S128"),
        ("tasks", "<i8"),
        ("batches", "<i8"),
        ("steal_requests", "<i8"),
        ("steals_with_work", "<i8"),
        ("tasks_stolen", "<i8"),
        ("mean_reply_s", "<f8"),
        ("busy_s", "<f8"),
        ("idle_s", "<f8"),
        ("wall_s", "<f8"),
        ("cpu_s", "<f8"),
        ("read_s", "<f8"),
        ("stain_s", "<f8"),
        ("infer_s", "<f8"),
        ("journal_s", "<f8"),
        ("level_s", "<f8", (MOST_LEVELS,)),
        ("peak_bytes", "<i8"),
    ]
)
"""One rank's account of a run. Times in seconds; `read_s`, `stain_s`, `infer_s`, `journal_s` are parts of `busy_s`,
`level_s` is the first three together by level, level 0 first. `peak_bytes` is the most memory held until the
gathering."""


def hosts_of_ranks(comm: MPI.Intracomm) -> npt.NDArray[np.void]:
    """One `RANK_DTYPE` record a rank on every rank, with hosts and processors and no account yet. Collective.

    Rank 0 warns when processors differ.
    """
    everyone = gather_records(comm, _own_record(comm))
    if everyone is not None:
        _name_mixed_hosts(everyone)
    shared = share_bytes(comm, None if everyone is None else everyone.tobytes())
    return np.frombuffer(shared, RANK_DTYPE).copy()


def _own_record(comm: MPI.Intracomm) -> npt.NDArray[np.void]:
    record = np.zeros(1, RANK_DTYPE)
    record["rank"] = comm.rank
    record["host"] = host_name().encode()[:64]
    record["cpu"] = cpu_description().encode()[:128]
    return record


def rank_record(comm: MPI.Intracomm, stats: Stats) -> npt.NDArray[np.void]:
    """The scheduler's account of the calling rank as one `RANK_DTYPE` record, shape (1,)."""
    record = _own_record(comm)
    record["peak_bytes"] = peak_resident_bytes()
    for name in RANK_DTYPE.names or ():
        if hasattr(stats, name):
            record[name] = getattr(stats, name)
    return record


def with_work(ranks: npt.NDArray[np.void], work: Mapping[int, npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    """`RANK_DTYPE` records with what each rank did of a slide, where the scheduler has not counted it.

    Parameters
    ----------
    work
        `pool.owner.WORK_DTYPE` by rank.
    """
    ranks = ranks.copy()
    for rank, done in work.items():
        for name in done.dtype.names or ():
            if not np.any(ranks[name][rank]):
                ranks[name][rank] = done[name]
    return ranks


def assemble_result(
    settings: RunSettings,
    package: ModelPackage,
    slide: OpenSlide,
    rule: TileRule,
    predictions: npt.NDArray[np.void],
    failed: npt.NDArray[np.void],
    execution: Execution,
    n_features: Sequence[int],
    sha256: str | None = None,
) -> Result:
    """Put the predictions of one slide, in any order, into canonical order beside what they were made with.

    Raises
    ------
    InternalError
        When the tiles do not add up (see `build_tree`).
    """
    tree = build_tree(predictions, rule, settings.mode)
    grid, info = rule.grid, slide.pyramid.reader.info
    return Result(
        slide=SlideRecord(info.name, slide.quickhash, info.vendor, info.l0_size, slide.mpp, info.l0_bounds, sha256),
        model=ModelRecord(
            name=package.name,
            classes=package.classes,
            positive_class=package.classes[package.score_column],
            tile_size=package.tile_size,
            scale_factor=package.scale_factor,
            base_mpp=package.base_mpp,
            stain=package.stain,
            level_sha256=tuple(level.sha256 for level in package.levels),
            yaml_text=package.yaml_text,
        ),
        tissue=TissueRecord(rule.tissue.mask, mask_downsample(grid), rule.tissue.source.method),
        levels=tuple(
            LevelRecord(
                patch_size=round(grid.tile_size * plan.ratio),
                patch_size_level0=round(grid.l0_tile_side(plan.level)),
                patch_level=info.level_in_file(plan.stored_level),
                downsample=grid.downsample(plan.level),
                level_dim=grid.level_dimensions(plan.level),
                spacing_um_px=plan.spacing,
                threshold=threshold,
                n_features=width,
            )
            for plan, threshold, width in zip(
                slide.pyramid.plans, package.thresholds(settings.model.thresholds), n_features, strict=True
            )
        ),
        tree=tree,
        l0_coords=tuple(grid.l0_corner(n, tree.levels[n].index) for n in range(grid.n_levels)),
        failed=np.sort(failed, order=["level", "row", "col"]),
        mode=str(settings.mode),
        n_reference_tiles=len(rule.reference_tiles()),
        execution=replace(execution, attributes={**execution.attributes, **rule.tissue.source.facts()}),
    )


def _name_mixed_hosts(ranks: npt.NDArray[np.void]) -> None:
    kinds = {(record["cpu"], record["host"]) for record in ranks}
    if len({cpu for cpu, _ in kinds}) > 1:
        listed = "; ".join(f"{host.decode()}: {cpu.decode()}" for cpu, host in sorted(kinds))
        log.warning("hosts have different processors, so the last bits of probabilities may differ (%s)", listed)


def failed_lines(result: Result) -> Iterator[str]:
    """The unreadable tiles in words, the largest first, the first of them one by one."""
    failed = result.failed[np.argsort(-result.failed["level"].astype(np.int64), kind="stable")]
    for record in failed[:_MOST_FAILED_LISTED]:
        level = int(record["level"])
        row = int(np.flatnonzero((result.tree.levels[level].index == (record["col"], record["row"])).all(axis=1))[0])
        l0_x, l0_y = result.l0_coords[level][row]
        yield (
            f"unreadable: level {level} col {record['col']} row {record['row']} at level-0 pixel ({l0_x}, {l0_y}): "
            f"{record['reason'].decode(errors='replace')}"
        )
    if len(failed) > _MOST_FAILED_LISTED:
        yield f"... and {len(failed) - _MOST_FAILED_LISTED} more unreadable tiles; all are in /failed of the result"
