"""From the ranks' predictions to one result in memory, on rank 0 or on a slide's owner."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.types import MOST_LEVELS, Mode
from pyramidai_mpi.process.host import cpu_description, host_name
from pyramidai_mpi.process.memory import peak_resident_bytes
from pyramidai_mpi.pyramid.refining import Ring
from pyramidai_mpi.pyramid.tissue import mask_downsample
from pyramidai_mpi.pyramid.tree import build_tree, tree_of
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
    from pyramidai_mpi.pyramid.blocks import BlockRule
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.pyramid.tree import ExecutionTree
    from pyramidai_mpi.run.strides import LevelPlan
    from pyramidai_mpi.sched import Stats
    from pyramidai_mpi.store.results.result import PartRecord

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


def slide_record(slide: OpenSlide, sha256: str | None = None) -> SlideRecord:
    """What files say of a slide; `sha256` of the whole file, where somebody asked for it."""
    info = slide.pyramid.reader.info
    return SlideRecord(
        info.name,
        slide.quickhash,
        info.vendor,
        info.l0_size,
        slide.mpp,
        info.l0_bounds,
        sha256,
        info.openslide_quickhash1,
    )


def model_record(package: ModelPackage) -> ModelRecord:
    """What files say of a model."""
    return ModelRecord(
        name=package.name,
        classes=package.classes,
        positive_class=package.positive_name,
        tile_size=package.tile_size,
        scale_factor=package.scale_factor,
        base_mpp=package.base_mpp,
        stain=package.stain,
        level_sha256=tuple(level.sha256 for level in package.levels),
        yaml_text=package.yaml_text,
        intended_use=package.intended_use,
    )


def assemble_result(
    settings: RunSettings,
    package: ModelPackage,
    slide: OpenSlide,
    rule: TileRule,
    plan: LevelPlan,
    predictions: npt.NDArray[np.void],
    failed: npt.NDArray[np.void],
    execution: Execution,
    n_features: Sequence[int],
    sha256: str | None = None,
    part: PartRecord | None = None,
) -> Result:
    """Put the predictions of one slide, in any order, into canonical order beside what they were made with.

    Raises
    ------
    InternalError
        When the tiles do not add up (see `build_tree`).
    """
    tree = tree_by(plan.rule, predictions, rule, settings.mode)
    thresholds = package.thresholds(settings.model.thresholds)
    grid, info = rule.grid, slide.pyramid.reader.info
    return Result(
        slide=slide_record(slide, sha256),
        model=model_record(package),
        tissue=TissueRecord(rule.tissue.mask, mask_downsample(grid), rule.tissue.source.method),
        levels=tuple(
            LevelRecord(
                patch_size=round(grid.window * read.ratio),
                patch_size_level0=round(grid.window * grid.downsample(read.level)),
                patch_level=info.level_in_file(read.stored_level),
                downsample=grid.downsample(read.level),
                level_dim=grid.level_dimensions(read.level),
                spacing_um_px=read.spacing,
                threshold=thresholds[one.network],
                n_features=width,
                feature_type=settings.model.feature_type if width else "float32",
                **_cells_of(plan, n),
            )
            for n, (one, read, width) in enumerate(zip(plan.levels.each, slide.pyramid.plans, n_features, strict=True))
        ),
        tree=tree,
        l0_coords=tuple(grid.l0_corners(n, tree.levels[n].index) for n in range(grid.n_levels)),
        failed=np.sort(failed, order=["level", "row", "col"]),
        mode=str(settings.mode),
        n_reference_tiles=n_reference(plan.rule, rule),
        execution=replace(execution, attributes={**execution.attributes, **rule.tissue.source.facts()}),
        part=part,
        encoder=None if package.encoder is None else model_record(package.encoder),
    )


def _cells_of(plan: LevelPlan, level: int) -> dict[str, Any]:
    """Fields of `LevelRecord` for tiles that are not windows side by side."""
    if plan.levels.is_plain:
        return {}
    one, ring = plan.levels.each[level], Ring() if plan.rule is None else plan.rule.ring(level)
    return {
        "network": one.network,
        "cell": one.cell,
        "block": one.block,
        "margin": one.margin,
        "base": plan.levels.base,
        "ring_before": ring.before,
        "ring_after": ring.after,
    }


def tree_by(blocks: BlockRule | None, predictions: npt.NDArray[np.void], rule: TileRule, mode: Mode) -> ExecutionTree:
    """The tree of a slide's predictions, of blocks of windows or of tiles that are one; raises as `build_tree`."""
    if blocks is None:
        return build_tree(predictions, rule, mode)
    expected = np.concatenate([blocks.first(rule), blocks.closer(rule, predictions)])
    return tree_of(predictions, rule.grid, expected, has_parents=blocks.start is not Mode.REFERENCE, blocks=blocks)


def n_reference(blocks: BlockRule | None, rule: TileRule) -> int:
    """Windows of the finest stride that a run without a pyramid would look at."""
    if blocks is None:
        return rule.count_reference()
    tiles = rule.reference_tiles()
    some = (tiles[first : first + 1024] for first in range(0, len(tiles), 1024))
    return sum(int(blocks.cells(rule, 0, part).sum()) for part in some)


def _name_mixed_hosts(ranks: npt.NDArray[np.void]) -> None:
    kinds = {(record["cpu"], record["host"]) for record in ranks}
    if len({cpu for cpu, _ in kinds}) > 1:
        listed = "; ".join(f"{host.decode()}: {cpu.decode()}" for cpu, host in sorted(kinds))
        log.warning("hosts have different processors, so the last bits of probabilities may differ (%s)", listed)


def looked_at_in_words(result: Result) -> str:
    """How many tiles were looked at, or of a run with strides how many windows."""
    return counted(result.tree.n_windows, "tile" if result.levels[0].cell is None else "window")


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
        more = counted(len(failed) - _MOST_FAILED_LISTED, "more unreadable tile")
        yield f"... and {more}; all are in /failed of the result"
