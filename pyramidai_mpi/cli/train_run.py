"""What the ranks of ``pyramidai train`` do together, from slides to packages."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.training.architectures import check_side

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.cli.train_options import NetworkChoice, SplitChoice
    from pyramidai_mpi.cli.training_line import TrainingLine
    from pyramidai_mpi.cli.training_session import TrainingOrder
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.exact.loop import TrainingProgress
    from pyramidai_mpi.training.fit_settings import FitSettings
    from pyramidai_mpi.training.patch_files import LabelledFiles
    from pyramidai_mpi.training.per_level import LevelResult, Material, TrainingPlan
    from pyramidai_mpi.training.splits import SlidesOfSplits


@dataclass(frozen=True)
class TrainingRequest:
    """What the command line asks for: see its help.

    Attributes
    ----------
    words
        Slides, or files of patches and folders of them.
    truth
        Annotations; None for files of patches.
    command
        For the card.
    settings_on
        Makes the settings for a device.
    """

    words: tuple[Path, ...]
    truth: Path | None
    positive_label: str | None
    tiles: int
    levels: int
    base_mpp: float
    mpp: float | None
    min_share: float
    stain: str
    stain_per: str
    stain_target: Path | None
    device: str
    command: str
    order: TrainingOrder
    network: NetworkChoice
    splitting: SplitChoice
    settings_on: Callable[[str], FitSettings]


def train(
    asked: TrainingRequest,
    line: TrainingLine,
    pool: UnitPool,
    order: TrainingOrder,
    show: Callable[[TrainingProgress], None] | None,
) -> int:
    """Train on the ranks there are; see `train_on_ranks`. Collective."""
    from pyramidai_mpi.training.exact.work_folder import begin_work, state_path
    from pyramidai_mpi.training.fitting import usable_device
    from pyramidai_mpi.training.per_level import accuracy_table, train_levels
    from pyramidai_mpi.training.tile_store import TileStore
    from pyramidai_mpi.training.trained_package import check_output, fold_table

    own_line = line if show is not None else None
    output = asked.order.output
    # the request's order, not that of this attempt: after a loss of ranks that one is to resume
    pool.on_rank0(lambda: check_output(output, overwrite=asked.order.overwrite))
    settings = pool.on_all(lambda: asked.settings_on(usable_device(asked.device, pool.size)))
    if own_line is not None:
        own_line.phase("looking at the slides")
    material, splits = _material(asked, pool)
    pool.on_all(lambda: check_side(asked.network.arch, material.model.tile_size))
    plans = {name: _plan(asked, order, material, name) for name in splits}
    states = [state_path(plan.work, name) for plan in plans.values() for name in plan.place_names()]
    begin_work(pool, states, resume=order.resume, overwrite=order.overwrite, say=line.say)
    slides = sorted({slide for split in splits.values() for part in split.values() for slide in part})
    store = TileStore(order.work / "tiles", material.model.n_levels)
    if own_line is not None:
        own_line.phase(f"tiles of {len(slides)} {material.kind}")
    store.draw(pool, material, slides)
    results: dict[str, list[LevelResult]] = {}
    for name, split in splits.items():
        if own_line is not None and name:
            own_line.say(f"{name}: {', '.join(f'{len(slides)} {kind}' for kind, slides in split.items())}")
        of_split = train_levels(pool, plans[name], settings, split, store, own_line)
        place = _write_fold if asked.splitting.is_crossed else _place_package
        pool.on_rank0(order.check_work)
        pool.on_rank0(partial(place, asked, plans[name], settings, split, of_split))
        results[name] = [replace(result, graph=b"") for result in of_split]
    if asked.splitting.is_crossed:
        pool.on_rank0(order.check_work)
        pool.on_rank0(partial(_place_folds, asked, plans, material, results))
    if own_line is not None:
        table = fold_table(results) if asked.splitting.is_crossed else accuracy_table(results[""])
        for text in table:
            own_line.say(text)
        own_line.say(
            f"{output}: thresholds are 0.5; choose better ones with pyramidai tune. {order.work} can be deleted"
        )
    return 0


def _plan(asked: TrainingRequest, order: TrainingOrder, material: Material, name: str) -> TrainingPlan:
    from pyramidai_mpi.training.per_level import TrainingPlan

    choice = asked.network
    work = order.work / name
    return TrainingPlan(
        material,
        choice.arch,
        choice.weights,
        choice.from_finer,
        work,
        order.save_every_s,
        choice.position,
        order.check_work,
    )


def _material(asked: TrainingRequest, pool: UnitPool) -> tuple[Material, Mapping[str, SlidesOfSplits]]:
    """What is learnt, and its splits by name; a single one is called nothing. Collective."""
    from pyramidai_mpi.store.patches.origins import Origins
    from pyramidai_mpi.training.labelled_patches import TilePlan, cases_of
    from pyramidai_mpi.training.patch_files import LabelledFiles, PatchPlan
    from pyramidai_mpi.training.splits import Split, centres_of, folds_of, split_by_owner

    seed, choice = asked.order.seed, asked.splitting
    material: Material
    if asked.truth is None:
        labelled = pool.on_all(lambda: LabelledFiles.read(asked.words, asked.positive_label))
        if pool.rank == 0:
            _say_labels(labelled)
        model = _bare_model(asked.order.output, 1, labelled.spacing, labelled.size, labelled.classes)
        material, cases = PatchPlan(model, labelled, asked.tiles, seed), labelled.cases()
        if not choice.is_crossed:
            return material, {"": pool.on_all(lambda: labelled.split(seed, choice.split, choice.fold))}
    else:
        model = _bare_model(asked.order.output, asked.levels, asked.base_mpp)
        material = plan = TilePlan(model, asked.truth, asked.min_share, asked.tiles, seed, asked.mpp)
        origins = pool.on_all(lambda: Origins() if choice.origin is None else Origins.read(choice.origin))
        cases = cases_of(pool, asked.words, plan, origins)
        split = {} if choice.is_crossed else pool.on_all(lambda: split_by_owner(cases, seed))
        if asked.stain != "none":
            first = split[Split.TRAIN][0] if split else asked.words[0]
            material = pool.on_all(lambda: plan.with_stain(asked.stain, asked.stain_target, first, asked.stain_per))
        if not choice.is_crossed:
            return material, {"": split}
    n_folds = choice.folds
    return material, pool.on_all(lambda: centres_of(cases, seed) if n_folds is None else folds_of(cases, n_folds, seed))


def _say_labels(labelled: LabelledFiles) -> None:
    from pyramidai_mpi.base.counts import counted

    numbers = ", ".join(f"{n} {name}" for n, name in zip(labelled.counts(), labelled.classes, strict=True))
    left_out = f"; {labelled.n_unknown} without a known label are left out" if labelled.n_unknown else ""
    click.echo(f"{counted(len(labelled.files), 'file')}: {numbers}{left_out}")


def _bare_model(
    folder: Path, levels: int, base_mpp: float, side: int = 0, classes: tuple[str, str] = ("normal", "tumor")
) -> ModelPackage:
    """Tile size and spacings of a package that is yet to be made."""
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage
    from pyramidai_mpi.models.write import SCALE_FACTOR, TILE, onnx_name

    return ModelPackage(
        folder=folder,
        name=folder.name,
        classes=classes,
        positive_class=1,
        tile_size=side or TILE,
        scale_factor=SCALE_FACTOR,
        base_mpp=base_mpp,
        stain="none",
        levels=tuple(ModelLevel(n, folder / onnx_name(n), 0.5, "") for n in range(levels)),
        yaml_text="",
    )


def _place_package(
    asked: TrainingRequest,
    plan: TrainingPlan,
    settings: FitSettings,
    split: SlidesOfSplits,
    results: Sequence[LevelResult],
) -> None:
    """Write the package, on rank 0."""
    from pyramidai_mpi.training.trained_package import placed_training, write_trained

    output = asked.order.output
    with placed_training(output, overwrite=asked.order.overwrite) as partial_folder:
        use = asked.network.intended_use
        write_trained(partial_folder, output.name, asked.command, plan, settings, split, results, use)


def _write_fold(
    asked: TrainingRequest,
    plan: TrainingPlan,
    settings: FitSettings,
    split: SlidesOfSplits,
    results: Sequence[LevelResult],
) -> None:
    """Write the package of one fold into its folder of work, on rank 0: only one fold's networks are in memory."""
    from pyramidai_mpi.training.trained_package import write_trained

    folder, name = plan.work / "package", f"{asked.order.output.name}-{plan.work.name}"
    shutil.rmtree(folder, ignore_errors=True)
    write_trained(folder, name, asked.command, plan, settings, split, results, asked.network.intended_use)


def _place_folds(
    asked: TrainingRequest,
    plans: Mapping[str, TrainingPlan],
    material: Material,
    results: Mapping[str, Sequence[LevelResult]],
) -> None:
    """Bring the folds' packages together, on rank 0."""
    from pyramidai_mpi.store.files.placing import storage_errors
    from pyramidai_mpi.training.trained_package import placed_training, write_folds

    output = asked.order.output
    with placed_training(output, overwrite=asked.order.overwrite) as partial_folder:
        with storage_errors(partial_folder):
            for name, plan in plans.items():
                shutil.copytree(plan.work / "package", partial_folder / name)
        kind = (
            "One network a centre, trained without its slides."
            if asked.splitting.folds is None
            else f"One network a fold; no patient is in two folds. {material.in_words}"
        )
        write_folds(partial_folder, output.name, asked.command, kind, results)
