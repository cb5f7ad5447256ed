"""What is learnt of slides: the loss, what the network's last numbers mean, and how good they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from pyramidai_mpi.models.aggregator_entry import SlideTask
from pyramidai_mpi.training.slides.metrics import auc, concordance, mean_auc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


class TaskHead(ABC):
    """One task.

    Attributes
    ----------
    task
        Its name.
    n_logits
        How many numbers the aggregator gives a slide, before any sigmoid or softmax: C'.
    classes
        Names of the numbers of a prediction (C).
    tile_classes, positive
        Names of the columns of a tile's probabilities, two or more, and which of them is looked for.
    figure_name, figure_sign
        What `figure` is called; 1 where greater is better, else -1.
    """

    task: SlideTask
    n_logits = 1
    classes: tuple[str, ...]
    tile_classes: tuple[str, ...]
    positive: str
    figure_name: str
    figure_sign = 1

    @abstractmethod
    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Summed loss of B slides, and the weight by which it is divided for the mean.

        Parameters
        ----------
        logits
            (B, C').
        targets
            float64 (B, 1), of survival (B, 2): time, and 1 for an event.
        """

    @abstractmethod
    def prediction(self, logits: torch.Tensor) -> torch.Tensor:
        """What is said of a slide, (..., C), of logits (..., C')."""

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """What is said of a slide that consists of one tile, as probabilities (..., 2 or more) of `tile_classes`."""
        return self.prediction(logits)

    @abstractmethod
    def figure(self, predictions: Floats, targets: Floats) -> float:
        """How good predictions (N, C) of slides with targets (N, 1 or 2) are."""


class BinaryHead(TaskHead):
    """Negative or positive: cross-entropy, area under the ROC curve."""

    task = SlideTask.BINARY
    figure_name = "auc"

    def __init__(self, classes: Sequence[str], weights: Sequence[float] = (1.0, 1.0)) -> None:
        self.classes = self.tile_classes = tuple(classes)
        self.positive = classes[1]
        self._weights = torch.tensor(weights, dtype=torch.float64)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Cross-entropy, each slide with its class's weight."""
        weights = self._weights[targets[:, 0].long()]
        each = functional.binary_cross_entropy_with_logits(
            logits[:, 0], targets[:, 0].to(logits.dtype), reduction="none"
        )
        return (each * weights.to(logits.dtype)).sum(), float(weights.sum())

    def prediction(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities of both classes."""
        positive = torch.sigmoid(logits)
        return torch.cat([1 - positive, positive], -1)

    def figure(self, predictions: Floats, targets: Floats) -> float:
        """Area under the ROC curve."""
        return auc(predictions[:, 1], targets[:, 0] > 0)


class ClassesHead(TaskHead):
    """One of several classes: cross-entropy, mean area under the ROC curves of each against the others."""

    task = SlideTask.CLASSES
    figure_name = "mean_auc"

    def __init__(self, classes: Sequence[str], positive: str, weights: Sequence[float] | None = None) -> None:
        self.classes = self.tile_classes = tuple(classes)
        self.positive, self.n_logits = positive, len(classes)
        self._weights = torch.tensor(weights or [1.0] * len(classes), dtype=torch.float64)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Cross-entropy, each slide with its class's weight."""
        classes = targets[:, 0].long()
        each = functional.cross_entropy(logits, classes, reduction="none")
        weights = self._weights[classes]
        return (each * weights.to(logits.dtype)).sum(), float(weights.sum())

    def prediction(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities of the classes."""
        return torch.softmax(logits, -1)

    def figure(self, predictions: Floats, targets: Floats) -> float:
        """Mean area under the ROC curves."""
        return mean_auc(predictions, targets[:, 0].astype(np.int64))


class ShareHead(TaskHead):
    """A share from 0 to 1: cross-entropy with the share as target, which is least where both are equal; mean error."""

    task = SlideTask.SHARE
    classes = ("share",)
    tile_classes = ("rest", "share")
    positive = "share"
    figure_name = "mean_error"
    figure_sign = -1

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Cross-entropy."""
        targets = targets[:, 0].to(logits.dtype)
        summed = functional.binary_cross_entropy_with_logits(logits[:, 0], targets, reduction="sum")
        return summed, float(len(targets))

    def prediction(self, logits: torch.Tensor) -> torch.Tensor:
        """The share."""
        return torch.sigmoid(logits)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """What is left, and the share."""
        share = torch.sigmoid(logits)
        return torch.cat([1 - share, share], -1)

    def figure(self, predictions: Floats, targets: Floats) -> float:
        """Mean absolute error."""
        return float(np.abs(predictions[:, 0] - targets[:, 0]).mean())


class SurvivalHead(TaskHead):
    """A risk: Cox's partial likelihood over the slides of a step (Breslow's, of ties), Harrell's concordance."""

    task = SlideTask.SURVIVAL
    classes = ("risk",)
    tile_classes = ("lower risk", "higher risk")
    positive = "higher risk"
    figure_name = "concordance"

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Negative logarithm of the partial likelihood, and the number of events."""
        risk, time, event = logits[:, 0], targets[:, 0], targets[:, 1] > 0
        at_risk = time >= time[:, None]  # row i: who had not had the event before i's time
        of_those = torch.logsumexp(risk.expand(len(risk), -1).masked_fill(~at_risk, -torch.inf), 1)
        return (of_those - risk)[event].sum(), float(event.sum())

    def prediction(self, logits: torch.Tensor) -> torch.Tensor:
        """The logarithm of the hazard, up to a constant."""
        return logits

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """The risk through a sigmoid, which keeps the order and means nothing else."""
        higher = torch.sigmoid(logits)
        return torch.cat([1 - higher, higher], -1)

    def figure(self, predictions: Floats, targets: Floats) -> float:
        """Harrell's concordance."""
        return concordance(predictions[:, 0], targets[:, 0], targets[:, 1] > 0)
