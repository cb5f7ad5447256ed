"""Gradients of networks over units of work, summed exactly over ranks; batch norm's running averages with them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from pyramidai_mpi.ranks.unit_pool import UnitPool


@dataclass(frozen=True)
class StepSums:
    """What a step saw: the losses of all its units together, and the weight of what they were of."""

    loss: float
    weight: float

    @property
    def mean(self) -> float:
        """Loss of one."""
        return self.loss / self.weight


class ExactGradients:
    """The gradients of some networks, of a mean over everything in a step.

    Frozen parameters (``requires_grad`` is False) have none. Batch norm in training mode takes its statistics from its
    unit alone; its running averages move by the mean over the units of a step, so they too are equal to the bit.

    Parameters
    ----------
    networks
        By name; the names stand in errors.
    bits
        See `ExactSum`: 40 for means over few things, 24 for sums over many pixels.
    what
        What a unit is called in errors.
    """

    def __init__(self, networks: Mapping[str, nn.Module], bits: int = 40, what: str = "micro-batch") -> None:
        self._networks, self._bits, self._what = dict(networks), bits, what
        self._memory: npt.NDArray[np.int64] | None = None

    def of_step(self, pool: UnitPool, n_units: int, loss_of: Callable[[int], tuple[torch.Tensor, float]]) -> StepSums:
        """Set ``grad`` of every parameter to that of the step's mean loss. Collective.

        Parameters
        ----------
        pool
            The ranks.
        n_units
            How many units the step has.
        loss_of
            Gives a unit's summed loss, with its graph, and the weight of what it is the sum of (such as a number of
            tiles). Must follow from the unit's number alone.

        Raises
        ------
        InputError
            A loss or gradient is not finite, or too large, or the weights sum up to nothing.
        PyramidError, PoolStoppedError
            See `UnitPool.do`; no ``grad`` is changed then in a way that matters.
        """
        trained = self._trained()
        norms = self._batch_norms()
        sizes = {"loss": 1, "weight": 1}
        sizes |= {f"gradient of {name}": parameter.numel() for name, parameter in trained.items()}
        for name, norm in norms.items():
            sizes[f"mean of {name}"] = sizes[f"variance of {name}"] = norm.num_features

        def term_of(unit: int) -> list[npt.NDArray[np.floating]]:
            for parameter in trained.values():
                parameter.grad = None
            loss, weight = loss_of(unit)
            # a unit in which nothing is to be learnt has no graph
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            statistics = [buffer for norm in norms.values() for buffer in (norm.running_mean, norm.running_var)]
            return [
                np.array([loss.item()]),
                np.array([weight], np.float64),
                *(_gradient(parameter) for parameter in trained.values()),
                *(buffer.cpu().numpy() for buffer in statistics if buffer is not None),
            ]

        with _statistics_of_units(norms) as before:
            n_numbers = sum(sizes.values())
            if self._memory is None or len(self._memory) != n_numbers:
                self._memory = np.empty(n_numbers, np.int64)
            total = pool.exact_sum(n_units, term_of, sizes, self._bits, self._what, self._memory)
        loss, weight = (float(total.mean_of(name, 1.0)[0]) for name in ("loss", "weight"))
        if not weight > 0:
            error = InputError("nothing in this step has any weight; look at the labels and class weights")
            error.agreed = True  # all ranks have the same sums
            raise error
        for name, parameter in trained.items():
            dtype = np.float64 if parameter.dtype == torch.float64 else np.float32
            mean = total.mean_of(f"gradient of {name}", weight, dtype)
            parameter.grad = torch.from_numpy(mean).to(parameter).view_as(parameter)
        for (name, norm), averages in zip(norms.items(), before, strict=True):
            mean, variance = (total.mean_of(f"{what} of {name}", n_units) for what in ("mean", "variance"))
            _move_averages(norm, averages, mean, variance)
        return StepSums(loss, weight)

    def _trained(self) -> dict[str, nn.Parameter]:
        return {
            f"{whose}.{name}": parameter
            for whose, network in self._networks.items()
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
        }

    def _batch_norms(self) -> dict[str, _BatchNorm]:
        return {
            f"{whose}.{name}": module
            for whose, network in self._networks.items()
            for name, module in network.named_modules()
            if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
        }


def _gradient(parameter: nn.Parameter) -> npt.NDArray[np.floating]:
    return np.zeros(parameter.numel(), np.float32) if parameter.grad is None else parameter.grad.cpu().numpy()


_Averages = tuple[torch.Tensor, torch.Tensor, "float | None"]


@contextmanager
def _statistics_of_units(norms: Mapping[str, _BatchNorm]) -> Iterator[list[_Averages]]:
    """Within, running averages are those of the last forward pass alone; after it, what they were before."""
    before: list[_Averages] = []
    for norm in norms.values():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        before.append((norm.running_mean.clone(), norm.running_var.clone(), norm.momentum))
        norm.momentum = 1.0
    try:
        yield before
    finally:
        for norm, (mean, variance, momentum) in zip(norms.values(), before, strict=True):
            norm.momentum = momentum
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            norm.running_var.copy_(variance)  # type: ignore[union-attr]
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.zero_()  # counts what this rank did; nothing that is trained here reads it


def _move_averages(
    norm: _BatchNorm, before: _Averages, mean: npt.NDArray[np.floating], variance: npt.NDArray[np.floating]
) -> None:
    share = 0.1 if norm.momentum is None else norm.momentum
    for buffer, old, new in ((norm.running_mean, before[0], mean), (norm.running_var, before[1], variance)):
        moved = (1 - share) * old.double() + share * torch.from_numpy(new).to(old.device)
        buffer.copy_(moved.to(buffer.dtype))  # type: ignore[union-attr]
