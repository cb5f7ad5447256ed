"""The learning rate of each step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyramidai_mpi.training.fit_settings import FitSettings


def rate_at(settings: FitSettings, epoch: int, step: int, steps: int) -> float:
    """Learning rate of a step.

    It rises in a straight line through `warm_up` epochs (Goyal et al. 2017), of whose last step it has its value. From
    there on ``cosine`` lets it fall along half a cosine wave, towards 0 at the end of all epochs (Loshchilov and Hutter
    2017), and ``steps`` divides it by 10 after each epoch of `FitSettings.drops`. `rate_decay` is that of Keras: it
    divides by 1 + D times the steps so far.

    Parameters
    ----------
    epoch, step
        From 0.
    steps
        Of an epoch.
    """
    done = epoch * steps + step
    warm = settings.warm_up * steps
    factor = 1 / (1 + settings.rate_decay * done)
    if done < warm:
        return settings.learning_rate * factor * (done + 1) / max(warm, 1)
    if settings.schedule == "cosine":
        factor *= (1 + math.cos(math.pi * (done - warm) / (settings.epochs * steps - warm))) / 2
    elif settings.schedule == "steps":
        factor *= 10.0 ** -sum(epoch >= drop for drop in settings.drops)
    return settings.learning_rate * factor
