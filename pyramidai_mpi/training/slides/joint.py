"""Gradient of an encoder of tiles and an aggregator of slides together, in memory that does not depend on the tiles.

As Campanella et al. 2024 ("Beyond multiple instance learning: full resolution all-in-memory end-to-end pathology slide
modeling") compute it over devices, in two passes. First the features of all tiles are computed without their graph and
brought to rank 0, where the aggregator's loss is differentiated: by its own parameters, and by the features. Then each
chunk of tiles is computed again, with its graph and the pseudo-loss sum(features * gradient of the features), whose
gradient is the chunk's share of that of the encoder. Here shares are summed as whole numbers: so whoever computes which
chunk, the sum is the same to the bit. What is summed is the gradient of one loss, so it is a sum and no mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.ranks.collectives import on_rank0, share_bytes
from pyramidai_mpi.training.exact.gradients import ExactGradients, StepSums
from pyramidai_mpi.training.exact.loop import NO_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from torch import nn

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.slides.aggregators import Aggregator
    from pyramidai_mpi.training.slides.bags import Bag, Chunk
    from pyramidai_mpi.training.slides.heads import TaskHead
    from pyramidai_mpi.training.slides.tile_features import FeatureSource

    Rows = npt.NDArray[np.floating]

BITS = 44
"""Gradients of chunks are added as multiples of 2**-44; they may reach 2**18 over the number of chunks."""
_TILES_AT_A_TIME = 4096
"""Rows of features that rank 0 holds while slides are judged."""


class JointGradients:
    """Sets the gradients of an encoder and an aggregator over the ranks.

    Parameters
    ----------
    pool
        The ranks.
    source
        Features of tiles; its encoder learns where any of its parameters asks for a gradient.
    aggregator
        Equal on all ranks.
    head
        What is learnt.

    Raises
    ------
    UsageError
        The encoder has batch norm in training mode.
    """

    def __init__(self, pool: UnitPool, source: FeatureSource, aggregator: Aggregator, head: TaskHead) -> None:
        self._pool, self._source, self._aggregator, self._head = pool, source, aggregator, head
        encoder = source.encoder
        _refuse_batch_norm(encoder)
        learns = encoder is not None and any(parameter.requires_grad for parameter in encoder.parameters())
        self._encoder = ExactGradients({"encoder": encoder}, BITS, "chunk") if learns and encoder is not None else None

    def of_step(self, bags: Sequence[Bag], epoch: int, *, encoder_learns: bool = True) -> StepSums:
        """Set ``grad`` of every parameter to that of the mean loss of some bags. Collective.

        Parameters
        ----------
        bags
            What is looked at.
        epoch
            Dropout and changes of tiles follow from it.
        encoder_learns
            False leaves the encoder's gradients as they are.

        Raises
        ------
        InputError
            The loss or a gradient is not finite or too large, or no tile of a bag can be read.
        PyramidError, PoolStoppedError
            See `UnitPool.do`.
        """
        chunks = [chunk for bag in bags for chunk in bag.chunks]
        features, readable = self._features(chunks, epoch)
        told = self._from_rank0(lambda: self._differentiated(bags, features, readable))
        loss, weight = told[:2].tolist()
        ends = np.cumsum([0, *(len(chunk.tiles) for chunk in chunks)])
        width = self._source.n_features
        gradients = torch.from_numpy(told[2 : 2 + int(ends[-1]) * width].reshape(-1, width)).to(self._source.dtype)
        end = 2 + gradients.numel()
        for parameter in self._aggregator.parameters():
            own = told[end : end + parameter.numel()]
            parameter.grad = torch.from_numpy(own).to(parameter.dtype).view_as(parameter)
            end += parameter.numel()
        if self._encoder is not None and encoder_learns:

            def pseudo_loss(number: int) -> tuple[torch.Tensor, float]:
                found, is_there = self._source(chunks[number], epoch)
                wanted = gradients[int(ends[number]) : int(ends[number + 1])][torch.from_numpy(is_there)]
                # the step's weight is told once, by its first chunk
                return (found * wanted).sum(), weight if number == 0 else 0.0

            self._encoder.of_step(self._pool, len(chunks), pseudo_loss)
        return StepSums(loss, weight)

    def logits(self, bags: Sequence[Bag]) -> npt.NDArray[np.float64]:
        """Logits float64 (B, C') of bags, without dropout or changes of tiles, on all ranks. Collective."""
        found = []
        for part in _parts_of(bags):
            features, readable = self._features([chunk for bag in part for chunk in bag.chunks], None)

            def judged(
                part: Sequence[Bag] = part, features: Rows = features, readable: npt.NDArray[np.bool_] = readable
            ) -> npt.NDArray[np.float64]:
                with torch.no_grad():
                    rows = _rows_of_bags(part, features, readable)
                    logits = torch.cat([self._aggregator(one[None]) for one in rows])
                if not logits.isfinite().all():
                    names = ", ".join(bag.case.name for bag in part)
                    raise InputError(f"{names}: what the networks say of them are {NO_NUMBERS}")
                reals: npt.NDArray[np.float64] = logits.double().numpy().reshape(-1)
                return reals

            found.append(self._from_rank0(judged))
        return np.concatenate(found).reshape(len(bags), self._head.n_logits)

    def _features(self, chunks: Sequence[Chunk], epoch: int | None) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Features (n, F) of all chunks and bool (n,), which could be read: on rank 0, see `UnitPool.rows`."""
        width = self._source.n_features
        dtype = torch.zeros((), dtype=self._source.dtype).numpy().dtype

        def rows_of(number: int) -> Rows:
            with torch.no_grad():
                found, readable = self._source(chunks[number], epoch)
            rows = np.zeros((len(readable), width + 1), dtype)
            rows[readable, :width] = found.numpy()
            rows[:, width] = readable
            return rows

        counts = [len(chunk.tiles) for chunk in chunks]
        rows: npt.NDArray[Any] = self._pool.rows(counts, rows_of, dtype, (width + 1,), on_all=False)
        return rows[:, :width], rows[:, width] > 0

    def _differentiated(
        self, bags: Sequence[Bag], features: Rows, readable: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        """Loss, weight, gradient of the features of the summed loss, and of the aggregator of the mean one."""
        inputs = [rows.requires_grad_() for rows in _rows_of_bags(bags, features, readable)]
        logits = torch.cat([self._aggregator(rows[None]) for rows in inputs])
        targets = torch.tensor([bag.case.target for bag in bags], dtype=torch.float64)
        loss, weight = self._head.loss(logits, targets)
        if not weight > 0:
            raise InputError("no slide of this step has any weight; look at the labels and class weights")
        parameters = list(self._aggregator.parameters())
        found = torch.autograd.grad(loss, [*inputs, *parameters], allow_unused=True)
        of_features = np.zeros(features.shape)
        of_features[readable] = torch.cat(found[: len(inputs)]).double().numpy()  # type: ignore[arg-type]
        of_parameters = [
            torch.zeros_like(parameter) if gradient is None else gradient / weight
            for parameter, gradient in zip(parameters, found[len(inputs) :], strict=True)
        ]
        told = np.concatenate(
            [[loss.item(), weight], of_features.reshape(-1), *(one.double().numpy().ravel() for one in of_parameters)]
        )
        if not np.isfinite(told).all():
            names = ", ".join(bag.case.name for bag in bags)
            raise InputError(f"{names}: the loss or its gradient is not a finite number; try a lower learning rate")
        return told

    def _from_rank0(self, action: Callable[[], npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """What rank 0 finds, on all ranks. Collective."""
        comm = self._pool.comm
        if comm is None:
            return action()
        found = on_rank0(comm, action)
        return np.frombuffer(share_bytes(comm, None if found is None else found.tobytes()), np.float64).copy()


def _refuse_batch_norm(encoder: nn.Module | None) -> None:
    for name, module in encoder.named_modules() if encoder is not None else ():
        if isinstance(module, _BatchNorm) and module.training:
            raise UsageError(
                f"the encoder's {name} is batch norm that takes its statistics from a chunk of tiles: a slide's "
                "gradient would depend on how it is cut, by about 1 %; use group norm, or batch norm in evaluation mode"
            )


def _rows_of_bags(bags: Sequence[Bag], features: Rows, readable: npt.NDArray[np.bool_]) -> list[torch.Tensor]:
    """Features of each bag's readable tiles."""
    ends = np.cumsum([0, *(bag.n_tiles for bag in bags)])
    found = []
    for bag, start, end in zip(bags, ends, ends[1:], strict=False):
        rows = features[start:end][readable[start:end]]
        if not len(rows):
            raise InputError(f"{bag.case.name}: none of its {bag.n_tiles} drawn tiles can be read; leave it out")
        found.append(torch.from_numpy(np.ascontiguousarray(rows)))
    return found


def _parts_of(bags: Sequence[Bag]) -> list[list[Bag]]:
    """Bags in groups of a bounded number of tiles, one bag at least."""
    parts: list[list[Bag]] = []
    held = 0
    for bag in bags:
        if not parts or held + bag.n_tiles > _TILES_AT_A_TIME:
            parts.append([])
            held = 0
        parts[-1].append(bag)
        held += bag.n_tiles
    return parts
