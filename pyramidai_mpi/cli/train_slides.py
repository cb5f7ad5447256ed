"""``pyramidai train-slides``: an encoder of tiles and an aggregator together, from labels of whole slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import ExitCode, UsageError
from pyramidai_mpi.base.extras import require_extra
from pyramidai_mpi.base.intended_use import IntendedUse
from pyramidai_mpi.cli.command_line import recorded_command
from pyramidai_mpi.cli.training_line import TrainingLine
from pyramidai_mpi.cli.training_session import TrainingOrder, train_on_ranks, training_options
from pyramidai_mpi.models.aggregator_entry import AggregatorMethod, SlideTask

if TYPE_CHECKING:
    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.augment import AugmentSettings
    from pyramidai_mpi.training.slides.plan import SlidePlan

_PATH = click.Path(path_type=Path, readable=False)
_RATE = click.FloatRange(0, min_open=True)
_CHANGES = ("none", "orientations", "light-stain", "strong-stain")


@click.command("train-slides")
@click.argument("slides", nargs=-1, type=_PATH, metavar="[SLIDE]...")
@click.option(
    "--features",
    multiple=True,
    type=_PATH,
    metavar="FILE.h5|DIR",
    help="Instead of slides: their features, of run --features, CLAM or TRIDENT. Then the aggregator alone learns.",
)
@click.option(
    "--labels",
    type=_PATH,
    required=True,
    metavar="F.csv",
    help="Columns slide and label (or share; or time and event); if wanted patient, whose slides are one case, and "
    "split.",
)
@click.option(
    "--task",
    type=click.Choice([task.value for task in SlideTask]),
    default=SlideTask.BINARY.value,
    show_default=True,
    help="Two classes, several, a share from 0 to 1, or survival.",
)
@click.option(
    "--positive",
    metavar="NAME",
    help="The positive class.  [default: tumor, positive, yes or 1, else the last by name]",
)
@click.option(
    "--split",
    type=_PATH,
    metavar="F.csv",
    help="Columns slide or patient, and split: train, validation or test.  [default: as --labels says, else drawn]",
)
@click.option(
    "--encoder",
    metavar="small-gn|resnet18-gn|PACKAGE",
    help="What computes a tile's features: a network with group norm, or that of a model package, by its folder or the "
    "name of a shipped one, whose batch norm stays as it is.  [default: small-gn]",
)
@click.option("--weights", type=_PATH, metavar="FILE", help="State dict that small-gn or resnet18-gn starts from.")
@click.option("--frozen-encoder", is_flag=True, help="Leave the encoder as it is, for comparison.")
@click.option(
    "--aggregator",
    type=click.Choice([method.value for method in AggregatorMethod]),
    default=AggregatorMethod.ABMIL.value,
    show_default=True,
    help="How tiles become a slide.",
)
@click.option(
    "--tiles",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    metavar="K",
    help="Tiles of each slide in an epoch, drawn anew; all of a slide that has no more.",
)
@click.option(
    "--chunk", type=click.IntRange(1), default=8, show_default=True, help="Tiles that a rank computes at a time."
)
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--accumulate",
    type=click.IntRange(1),
    metavar="N",
    help="Slides (or patients) of a step.  [default: 1; of survival 8, over which the likelihood is]",
)
@click.option("--learning-rate", type=_RATE, default=1e-4, show_default=True)
@click.option(
    "--encoder-learning-rate", type=_RATE, metavar="RATE", help="Of the encoder.  [default: as --learning-rate]"
)
@click.option(
    "--frozen-epochs",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Epochs at first in which the aggregator learns alone; good for an encoder that has learnt before.",
)
@click.option("--weight-decay", type=click.FloatRange(0), default=1e-4, show_default=True, help="As AdamW has it.")
@click.option("--class-weights", default="none", show_default=True, metavar="none|balanced|NAME=W,NAME=W")
@click.option(
    "--dropout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of a tile's features that is left out while learning.",
)
@click.option(
    "--augment",
    type=click.Choice(_CHANGES),
    default="orientations",
    show_default=True,
    help="How tiles are changed while learning: turned and flipped; stained otherwise, too.",
)
@click.option("--patience", type=click.IntRange(1), metavar="N", help="Stop after N epochs without a better one.")
@click.option("--base-mpp", type=_RATE, help="µm per pixel of tiles.  [default: the package's, else 0.25]")
@click.option("--mpp", type=_RATE, help="µm per pixel of slides that do not say.")
@click.option("--tile-size", type=click.IntRange(16, 8192), help="Side of a tile.  [default: the package's, else 224]")
@click.option(
    "--intended-use",
    type=click.Choice([use.value for use in IntendedUse if use is not IntendedUse.BENCHMARK]),
    help="What the model may be used for: demonstration where the slides are generated.  [default: as the "
    "encoder's package says]",
)
@training_options
def command(
    slides: tuple[Path, ...],
    features: tuple[Path, ...],
    labels: Path,
    task: str,
    positive: str | None,
    split: Path | None,
    encoder: str | None,
    weights: Path | None,
    frozen_encoder: bool,
    aggregator: str,
    tiles: int,
    chunk: int,
    epochs: int,
    accumulate: int | None,
    learning_rate: float,
    encoder_learning_rate: float | None,
    frozen_epochs: int,
    weight_decay: float,
    class_weights: str,
    dropout: float,
    augment: str,
    patience: int | None,
    base_mpp: float | None,
    mpp: float | None,
    tile_size: int | None,
    intended_use: str | None,
    order: TrainingOrder,
) -> int:
    """Train an encoder of tiles and an aggregator of slides together on labels of whole slides, and write a package.

    Slides are split by patient: 60 % learn, 20 % choose the best epoch, 20 % test. The weights are the same for any
    number of ranks.
    """
    if bool(slides) == bool(features):
        raise UsageError("give SLIDEs, or --features in their place")
    if frozen_epochs and (features or frozen_encoder):
        raise UsageError("--frozen-epochs is for an encoder that learns later; leave it out")
    if features and (weights is not None or frozen_encoder or tile_size or base_mpp or mpp):
        raise UsageError(
            "--weights, --frozen-encoder, --tile-size, --base-mpp and --mpp are for slides, not --features"
        )
    require_extra("train", "training")
    from pyramidai_mpi.training.slides.fit import SlideFit
    from pyramidai_mpi.training.slides.plan import SlidePlan

    kind = SlideTask(task)
    fit = SlideFit(
        epochs,
        accumulate or (8 if kind is SlideTask.SURVIVAL else 1),
        learning_rate,
        encoder_learning_rate or learning_rate,
        weight_decay,
        patience,
        order.seed,
        frozen_epochs,
        order.save_every_s,
    )
    plan = SlidePlan(
        slides=slides,
        features=features,
        labels=labels,
        task=kind,
        tiles=tiles,
        encoder=encoder or (None if features else "small-gn"),
        aggregator=AggregatorMethod(aggregator),
        fit=fit,
        splits=split,
        positive=positive,
        chunk=chunk,
        weights=weights,
        frozen=frozen_encoder,
        class_weights=class_weights,
        dropout=dropout,
        changes=_changes(augment),
        base_mpp=base_mpp,
        tile_size=tile_size,
        mpp=mpp,
    )
    made_by = recorded_command(click.get_current_context())
    return train_on_ranks(
        order, lambda pool, how, _: _train(pool, how, plan, made_by, intended_use, overwrite=order.overwrite)
    )


def _train(
    pool: UnitPool, order: TrainingOrder, plan: SlidePlan, made_by: str, intended_use: str | None, *, overwrite: bool
) -> int:
    """Train on all ranks, and write what came of it. Collective.

    `overwrite` is of the package; `order` may be one to resume after ranks were lost.
    """
    from pyramidai_mpi.training.exact.work_folder import begin_work, state_path
    from pyramidai_mpi.training.slides.output import check_output, figures_in_words, write_output
    from pyramidai_mpi.training.slides.plan import prepare

    pool.on_rank0(lambda: check_output(order.output, overwrite=overwrite))
    with TrainingLine(quiet=order.quiet or pool.rank != 0) as line:
        begin_work(pool, [state_path(order.work)], resume=order.resume, overwrite=order.overwrite, say=line.say)
        line.phase("looking for tissue" if plan.slides else "reading features")
        prepared = prepare(pool, plan, order.output)
        trained = prepared.trainer.train(
            order.work,
            prepared.facts,
            begin=lambda done: line.begin("", plan.fit.epochs, prepared.trainer.steps, done),
            show=line.show,
            check=order.check_work,
        )
        pool.on_rank0(order.check_work)
        is_package = pool.on_rank0(
            lambda: write_output(order.output, plan, prepared, trained, made_by, intended_use, overwrite=overwrite)
        )
        if pool.rank == 0:
            line.say(figures_in_words(prepared.head, trained))
            line.say(f"weights {trained.digest.hex()}")
            what = "" if is_package else " (no package, as nobody knows what made the features; see --encoder)"
            line.say(f"{order.output}{what}; {order.work} can be deleted")
    return ExitCode.OK


def _changes(augment: str) -> AugmentSettings:
    from pyramidai_mpi.training.augment import LIGHT_STAIN, NO_CHANGE, STRONG_STAIN, AugmentSettings

    return {
        "none": NO_CHANGE,
        "orientations": AugmentSettings(),
        "light-stain": LIGHT_STAIN,
        "strong-stain": STRONG_STAIN,
    }[augment]
