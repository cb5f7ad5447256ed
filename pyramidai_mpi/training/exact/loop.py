"""A training that may stop after any step, and goes on from there to the same bits on any number of ranks.

```
training = ExactTraining(pool, {"network": network}, optimizer, checkpoint, log, settings)
training.begin(epochs)
while training.epoch < epochs:
    for number in range(training.step_number, len(steps_of(training.epoch))):
        training.set_learning_rate(schedule.at(training.epoch, number))
        training.step(n_units, loss_of_unit)
    training.end_epoch({"validation_accuracy": ...})
```
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.damage import DAMAGE
from pyramidai_mpi.base.errors import InputError, PyramidError, UsageError, failed_read
from pyramidai_mpi.ranks.collectives import agree, on_rank0, usual_rank
from pyramidai_mpi.ranks.unit_pool import PoolStoppedError
from pyramidai_mpi.training.exact.checkpoint import digest_of, no_state
from pyramidai_mpi.training.exact.gradients import ExactGradients, StepSums

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import nn

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.exact.checkpoint import Checkpoint
    from pyramidai_mpi.training.exact.log import TrainingLog

NO_NUMBERS = "no finite numbers; begin anew (--overwrite) with a lower --learning-rate"
"""Of what networks say that have learnt too fast."""


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands, as rank 0 sees it after a step.

    Attributes
    ----------
    epoch, step
        How many epochs are done, and steps of the present one.
    loss
        Mean loss of the epoch so far.
    units_per_s
        Units of all ranks together, since this start.
    busiest_over_ideal
        Busy time of the busiest rank over the mean.
    """

    epoch: int
    step: int
    loss: float
    units_per_s: float
    busiest_over_ideal: float


class ExactTraining:
    """Networks, their optimiser and how far they are.

    Parameters
    ----------
    pool
        The ranks.
    networks
        By name. They and the optimiser are equal on all ranks at any time; batch norm's modules are in the mode that
        `networks` are in during a step.
    optimizer
        Of their parameters.
    checkpoint, log
        Written by rank 0.
    gradients
        How they are summed; None for `ExactGradients` with its usual precision.
    save_every_s
        Seconds from one saved state to the next within an epoch; 0 saves after each step. When it is saved decides
        nothing.
    show
        Called on rank 0 after each step.

    Attributes
    ----------
    epoch, step_number
        Of the next step, both from 0.
    kept
        States of networks that were kept by name, such as the best so far.
    """

    def __init__(
        self,
        pool: UnitPool,
        networks: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        checkpoint: Checkpoint,
        log: TrainingLog,
        *,
        gradients: ExactGradients | None = None,
        save_every_s: float = 60.0,
        show: Callable[[TrainingProgress], None] | None = None,
    ) -> None:
        self.pool, self.networks, self.optimizer = pool, dict(networks), optimizer
        self.log = log
        self.epoch = self.step_number = 0
        self.kept: dict[str, dict[str, Any]] = {}
        self._checkpoint = checkpoint
        self._gradients = gradients or ExactGradients(networks)
        self._save_every_s, self._show = save_every_s, show
        self._loss = self._weight = 0.0
        self._units = 0
        self._started = self._saved = time.monotonic()

    def begin(self, epochs: int | None = None) -> bool:
        """Go on from the checkpoint, if there is one; whether there was. Collective.

        Parameters
        ----------
        epochs
            How many are asked for at most; None for any number.

        Raises
        ------
        UsageError
            It has done more epochs than that.
        InputError
            It is of another training; or ranks would train something else, as hosts with other files may.
        """
        facts = repr(sorted(self._checkpoint.facts.items())).encode()
        self.pool.agree_on(
            facts + digest_of({name: network.state_dict() for name, network in self.networks.items()}),
            "what is trained (tables, slides, starting weights)",
        )
        state = self._checkpoint.load(self.pool.comm)
        if state is not None:
            self._take_up(state)
            begun = self.epoch + (self.step_number > 0)
            if epochs is not None and begun > epochs:
                refused = UsageError(
                    f"--epochs {epochs}: {self._checkpoint.path} is of a training that has begun {begun}; give {begun} "
                    "or more, or --overwrite to begin anew"
                )
                refused.agreed = True  # all ranks have the same state
                raise refused
        self.log.begin(self.pool)
        self._started = self._saved = time.monotonic()
        return state is not None

    def _take_up(self, state: dict[str, Any]) -> None:
        """Become what a state says; torch and the lines here may meet anything in one that was made up."""
        try:
            for name, network in self.networks.items():
                network.load_state_dict(state["networks"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.step_number = int(state["epoch"]), int(state["step"])
            self._loss, self._weight, self.kept = float(state["loss"]), float(state["weight"]), dict(state["kept"])
            self.log.rows[:] = map(dict, state["rows"])
        except DAMAGE as error:
            refused = failed_read(self._checkpoint.path, error) or no_state(self._checkpoint.path)
            refused.agreed = True  # all ranks have the same state
            raise refused from error

    def set_learning_rate(self, rate: float) -> None:
        """Of the next step, in all groups of parameters."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, n_units: int, loss_of: Callable[[int], tuple[torch.Tensor, float]]) -> StepSums:
        """Sum the gradients of units and let the optimiser take its step: see `ExactGradients.of_step`. Collective.

        Raises
        ------
        PoolStoppedError
            All ranks were told to stop; the state before this step is saved.
        """
        return self.step_with(lambda: self._gradients.of_step(self.pool, n_units, loss_of), n_units)

    def step_with(self, set_gradients: Callable[[], StepSums], n_units: int) -> StepSums:
        """Take a step whose gradients something else sets: equal ones on all ranks. Collective."""
        try:
            sums = set_gradients()
        except (PoolStoppedError, PyramidError):
            self.save()
            raise
        self._step()
        self._loss, self._weight = self._loss + sums.loss, self._weight + sums.weight
        self.step_number += 1
        self._units += n_units
        balance = self.pool.busiest_over_ideal()
        if self._show is not None and self.pool.rank == 0:
            self._show(
                TrainingProgress(
                    self.epoch,
                    self.step_number,
                    self._loss / self._weight,
                    self._units / max(time.monotonic() - self._started, 1e-9),
                    balance,
                )
            )
        if time.monotonic() - self._saved >= self._save_every_s:
            self._save_here()
        return sums

    def _step(self) -> None:
        try:
            self.optimizer.step()
        except RuntimeError as error:  # torch: value cannot be converted to type float without overflow
            refused = InputError(f"weights become {NO_NUMBERS}")
            refused.agreed = True  # all ranks have the same gradients
            raise refused from error

    def keep(self, name: str) -> None:
        """Keep the networks' present states under a name."""
        self.kept[name] = {
            whose: {key: value.detach().clone() for key, value in network.state_dict().items()}
            for whose, network in self.networks.items()
        }

    def take_back(self, name: str) -> None:
        """Give the networks the states kept under a name."""
        for whose, network in self.networks.items():
            network.load_state_dict(self.kept[name][whose])

    @property
    def epoch_loss(self) -> float:
        """Mean loss of the epoch so far."""
        return self._loss / self._weight if self._weight else float("nan")

    def end_epoch(self, row: Mapping[str, float | int | str]) -> None:
        """Close the epoch: compare the ranks' states, write a row of the log, save. Collective.

        Parameters
        ----------
        row
            What the log says of it beside its number and mean loss.

        Raises
        ------
        InputError
            Ranks have come to different states, as processors of different kinds may; names one.
        """
        self.log.rows.append({"epoch": self.epoch + 1, "loss": self.epoch_loss, **row})
        self.epoch, self.step_number = self.epoch + 1, 0
        self._loss = self._weight = 0.0
        self._compare_states()
        self.save()
        self.log.write(self.pool)

    def digest(self) -> bytes:
        """SHA-256 of networks, optimiser and what is kept."""
        return digest_of(
            {name: network.state_dict() for name, network in self.networks.items()},
            self.optimizer.state_dict(),
            self.kept,
        )

    def _compare_states(self) -> None:
        if self.pool.comm is None:
            return
        usual, is_usual = usual_rank(self.pool.comm, self.digest())
        error = (
            None
            if usual is None or is_usual
            else InputError(
                f"after epoch {self.epoch} its weights are others than rank {usual}'s, from the same sums: give "
                "all ranks the same kind of processor and the same libraries"
            )
        )
        agree(self.pool.comm, error)

    def save(self) -> None:
        """Save the state. Collective."""
        if self.pool.comm is None:
            self._save_here()
        else:
            on_rank0(self.pool.comm, self._save_here)

    def _save_here(self) -> None:
        self._saved = time.monotonic()
        if self.pool.rank != 0:
            return
        state = {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step_number,
            "loss": self._loss,
            "weight": self._weight,
            "kept": self.kept,
            "rows": self.log.rows,
        }
        self._checkpoint.save(state, (self.epoch, self.step_number))


def said_of(error: InputError, where: str) -> InputError:
    """The same error, with where in a training it happened in front of it."""
    found = InputError(f"{where}: {error}")
    found.agreed = error.agreed
    return found
