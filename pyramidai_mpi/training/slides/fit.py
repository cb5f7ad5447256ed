"""Training on slides, epoch by epoch: steps, judging, which epoch is kept, when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pyramidai_mpi.models.aggregator_entry import SlideTask
from pyramidai_mpi.ranks.unit_pool import PoolStoppedError
from pyramidai_mpi.training.exact.checkpoint import Checkpoint, digest_of
from pyramidai_mpi.training.exact.log import TrainingLog
from pyramidai_mpi.training.exact.loop import ExactTraining
from pyramidai_mpi.training.exact.work_folder import state_path
from pyramidai_mpi.training.slides.bags import steps_of_epoch
from pyramidai_mpi.training.slides.joint import JointGradients
from pyramidai_mpi.training.splits import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.exact.log import Row
    from pyramidai_mpi.training.exact.loop import TrainingProgress
    from pyramidai_mpi.training.slides.aggregators import Aggregator
    from pyramidai_mpi.training.slides.bags import Case, Draw
    from pyramidai_mpi.training.slides.heads import TaskHead
    from pyramidai_mpi.training.slides.tile_features import FeatureSource


@dataclass(frozen=True)
class SlideFit:
    """How slides are learnt from.

    Attributes
    ----------
    epochs
        At most.
    per_step
        Cases of a step, over which losses are averaged.
    learning_rate, encoder_rate
        Of the aggregator and of the encoder.
    weight_decay
        As AdamW has it.
    patience
        Epochs without a better one before it stops; None for never.
    seed
        Of the order of cases.
    frozen_epochs
        Epochs in which the aggregator learns alone, at first: before it means anything, what it asks of a trained
        encoder does harm.
    save_every_s
        See `ExactTraining`.
    """

    epochs: int = 20
    per_step: int = 1
    learning_rate: float = 1e-4
    encoder_rate: float = 1e-4
    weight_decay: float = 1e-4
    patience: int | None = None
    seed: int = 0
    frozen_epochs: int = 0
    save_every_s: float = 60.0


@dataclass(frozen=True)
class SlideJudgement:
    """What was predicted of cases.

    Attributes
    ----------
    cases
        Which.
    predictions
        float64 (N, C), see `TaskHead.prediction`.
    loss, figure
        Mean loss, and how good they are.
    """

    cases: tuple[Case, ...]
    predictions: npt.NDArray[np.float64]
    loss: float
    figure: float


@dataclass(frozen=True)
class TrainedOnSlides:
    """What came of a training.

    Attributes
    ----------
    rows
        Of the log.
    best_epoch
        Which epoch's weights the networks have now, from 1.
    judged
        What these say of the cases that chose, and that test.
    digest
        SHA-256 of these weights.
    """

    rows: tuple[Row, ...]
    best_epoch: int
    judged: Mapping[Split, SlideJudgement]
    digest: bytes


class SlideTrainer:
    """An encoder and an aggregator that learn from cases.

    Parameters
    ----------
    pool
        The ranks.
    source, aggregator, head
        See `JointGradients`.
    draw
        Which tiles of a case are looked at.
    split
        The cases.
    fit
        How.
    """

    def __init__(
        self,
        pool: UnitPool,
        source: FeatureSource,
        aggregator: Aggregator,
        head: TaskHead,
        draw: Draw,
        split: Mapping[Split, Sequence[Case]],
        fit: SlideFit,
    ) -> None:
        self._pool, self._head, self._draw, self._split, self._fit = pool, head, draw, split, fit
        self._networks: dict[str, nn.Module] = {"aggregator": aggregator}
        rates = [{"params": list(aggregator.parameters()), "lr": fit.learning_rate}]
        if source.encoder is not None:
            self._networks = {"encoder": source.encoder, **self._networks}
            learning = [parameter for parameter in source.encoder.parameters() if parameter.requires_grad]
            if learning:
                rates.append({"params": learning, "lr": fit.encoder_rate})
        self._optimizer = torch.optim.AdamW(rates, weight_decay=fit.weight_decay)
        self._gradients = JointGradients(pool, source, aggregator, head)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self._steps_of(0))

    def train(
        self,
        folder: Path,
        facts: Mapping[str, object],
        *,
        begin: Callable[[int], None] = lambda _: None,
        show: Callable[[TrainingProgress], None] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> TrainedOnSlides:
        """Train, or go on from what is kept. Collective.

        Parameters
        ----------
        folder
            Keeps the state and the log.
        facts
            What tells this training from others, by the names of the options.
        begin
            Called with the number of steps that were done before.
        show
            Called on rank 0 after each step.
        check
            See `Checkpoint`.

        Raises
        ------
        UsageError
            The state is of more epochs than are asked for.
        InputError
            The state is of another training, or something that is computed is not finite.
        PoolStoppedError
            All ranks were told to stop; the state is saved.
        """
        log = TrainingLog(folder)
        training = ExactTraining(
            self._pool,
            self._networks,
            self._optimizer,
            Checkpoint(state_path(folder), facts, check),
            log,
            save_every_s=self._fit.save_every_s,
            show=show,
        )
        training.begin(self._fit.epochs)
        begin(training.epoch * self.steps + training.step_number)
        while training.epoch < self._fit.epochs and not self._is_over(log.rows):
            steps = self._steps_of(training.epoch)
            for cases in steps[training.step_number :]:
                bags = [self._draw.bag(case, training.epoch) for case in cases]
                both = training.epoch >= self._fit.frozen_epochs
                training.step_with(
                    lambda bags=bags, both=both: self._gradients.of_step(  # type: ignore[misc]
                        bags, training.epoch, encoder_learns=both
                    ),
                    sum(len(bag.chunks) for bag in bags),
                )
            try:
                judged = self.judge(self._split[Split.VALIDATION])
            except PoolStoppedError:
                training.save()
                raise
            row: Row = {"validation_loss": judged.loss, f"validation_{self._head.figure_name}": judged.figure}
            if self._best([*log.rows, row]) == len(log.rows):
                training.keep("best")
            training.end_epoch(row)
        training.take_back("best")
        judged_at_end = {kind: self.judge(self._split[kind]) for kind in (Split.VALIDATION, Split.TEST)}
        digest = digest_of({name: network.state_dict() for name, network in self._networks.items()})
        return TrainedOnSlides(tuple(log.rows), self._best(log.rows) + 1, judged_at_end, digest)

    def judge(self, cases: Sequence[Case]) -> SlideJudgement:
        """What the networks say of cases now. Collective."""
        logits = torch.from_numpy(self._gradients.logits([self._draw.bag(case, None) for case in cases]))
        targets = torch.tensor([case.target for case in cases], dtype=torch.float64)
        loss, weight = self._head.loss(logits, targets)
        predictions = self._head.prediction(logits).numpy()
        return SlideJudgement(
            tuple(cases), predictions, loss.item() / weight, self._head.figure(predictions, targets.numpy())
        )

    def _steps_of(self, epoch: int) -> list[list[Case]]:
        events = self._head.task is SlideTask.SURVIVAL
        return steps_of_epoch(self._fit.seed, epoch, self._split[Split.TRAIN], self._fit.per_step, events=events)

    def _best(self, rows: Sequence[Row]) -> int:
        """Which row is the best: by the figure, then by the loss, then the earliest."""

        def worth(number: int) -> tuple[float, float, int]:
            figure = self._head.figure_sign * float(rows[number][f"validation_{self._head.figure_name}"])
            return (-math.inf if math.isnan(figure) else figure, -float(rows[number]["validation_loss"]), -number)

        return max(range(len(rows)), key=worth)

    def _is_over(self, rows: Sequence[Row]) -> bool:
        if self._fit.patience is None or len(rows) <= self._fit.frozen_epochs:
            return False
        return len(rows) - 1 - max(self._best(rows), self._fit.frozen_epochs - 1) >= self._fit.patience
