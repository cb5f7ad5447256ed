"""Training on whole images: one image a step, its exact gradient, Dice on whole images that were held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.ranks.unit_pool import PoolStoppedError
from pyramidai_mpi.training.exact.gradients import ExactGradients
from pyramidai_mpi.training.exact.loop import ExactTraining, said_of
from pyramidai_mpi.training.exact.random_choices import generator_of
from pyramidai_mpi.training.whole.allocator import keep_freed_memory
from pyramidai_mpi.training.whole.step import BITS, ImageStep, dice_of, place_crop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.exact.checkpoint import Checkpoint
    from pyramidai_mpi.training.exact.log import TrainingLog
    from pyramidai_mpi.training.exact.loop import TrainingProgress
    from pyramidai_mpi.training.whole.field import Field
    from pyramidai_mpi.training.whole.images import Image

BEST = "best"
DICE = "validation_dice"


@dataclass(frozen=True)
class WholeSettings:
    """How a network is trained on whole images.

    Attributes
    ----------
    epochs, steps
        At most so many epochs, of so many steps, each on one image.
    patience
        Epochs without a better Dice after which training ends; 0 for never.
    crop
        Width and height of what a step sees of a larger image; None for all of it.
    block
        Width and height of what is computed at a time, multiples of the network's total stride.
    learning_rate
        Of Adam.
    seed
        Of the order of images and the places of crops.
    """

    epochs: int
    steps: int
    patience: int
    crop: tuple[int, int] | None
    block: tuple[int, int]
    learning_rate: float
    seed: int


def check_block(block: tuple[int, int], field: Field) -> None:
    """See that blocks can be cut by a network's total stride.

    Raises
    ------
    UsageError
        They cannot.
    """
    stride = field.total_stride
    if any(side % stride for side in block):
        nearest = "x".join(str(max(1, round(side / stride)) * stride) for side in block)
        raise UsageError(
            f"--block {block[0]}x{block[1]}: sides must be multiples of the network's total stride, {stride}; "
            f"give {nearest}"
        )


def train_on_images(
    pool: UnitPool,
    network: nn.Module,
    field: Field,
    images: tuple[Sequence[Image], Sequence[Image]],
    settings: WholeSettings,
    checkpoint: Checkpoint,
    log: TrainingLog,
    *,
    save_every_s: float = 60.0,
    show: Callable[[TrainingProgress], None] | None = None,
    began: Callable[[ExactTraining], None] | None = None,
) -> ExactTraining:
    """Train, or go on, and leave the network with the weights of the best epoch. Collective.

    Parameters
    ----------
    pool
        The ranks.
    network, field
        What is trained, and how it can be cut.
    images
        Those to learn from, and those to choose the best epoch by.
    settings
        How.
    checkpoint, log, save_every_s, show
        See `ExactTraining`.
    began
        Called once it is known where the training stands.

    Raises
    ------
    InputError
        Something is not finite, or the checkpoint is of another training.
    PoolStoppedError
        See `UnitPool`; the state is saved.
    """
    keep_freed_memory()
    learnt, held_out = images
    training = ExactTraining(
        pool,
        {"network": network},
        torch.optim.Adam(network.parameters(), settings.learning_rate),
        checkpoint,
        log,
        gradients=ExactGradients({"network": network}, BITS, "block"),
        save_every_s=save_every_s,
        show=show,
    )
    training.begin(settings.epochs)
    if began is not None:
        began(training)
    validation = [ImageStep(network, field, settings.block, image) for image in held_out]
    while not is_over(training, settings):
        order = order_of(len(learnt), settings, training.epoch)
        for number in range(training.step_number, settings.steps):
            image = learnt[order[number]]
            part = place_crop(image, settings.crop, settings.seed, training.epoch, number)
            step = ImageStep(network, field, settings.block, image, part)
            try:
                training.step(len(step.blocks), step.loss)
            except InputError as error:
                where = f"{image.name}, epoch {training.epoch + 1}, step {number + 1}"
                raise said_of(error, where) from error
        try:
            of_images = dice_of(pool, validation)
        except PoolStoppedError:
            training.save()
            raise
        except InputError as error:
            raise said_of(error, f"after epoch {training.epoch + 1}") from error
        mean = sum(of_images) / len(of_images)
        if mean > best_dice(training):
            training.keep(BEST)
        training.end_epoch({DICE: mean, f"{DICE}_lowest": min(of_images)})
    if BEST in training.kept:
        training.take_back(BEST)
    return training


def order_of(n_images: int, settings: WholeSettings, epoch: int) -> list[int]:
    """Number of the image of each step of an epoch: each image once before any comes again."""
    rounds = -(-settings.steps // n_images)
    rng = generator_of(settings.seed, "order", epoch)
    return [int(number) for _ in range(rounds) for number in rng.permutation(n_images)][: settings.steps]


def best_dice(training: ExactTraining) -> float:
    """The highest mean Dice so far; -1 before the first epoch has ended."""
    return max((float(row[DICE]) for row in training.log.rows), default=-1.0)


def best_epoch(training: ExactTraining) -> int:
    """The epoch whose weights are kept, from 1: the first of the best; 0 before any."""
    dice = [float(row[DICE]) for row in training.log.rows]
    return 1 + dice.index(max(dice)) if dice else 0


def is_over(training: ExactTraining, settings: WholeSettings) -> bool:
    """Whether all epochs are done, or no later one of `patience` was better than the best."""
    done = training.epoch >= settings.epochs
    waited = training.epoch - best_epoch(training)
    return done or (settings.patience > 0 and training.epoch > 0 and waited >= settings.patience)
