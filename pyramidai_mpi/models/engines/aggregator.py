"""One prediction of a slide from the features of its tiles, by the aggregator of a model package.

It sees all tiles of a slide at once, so nothing is padded: equal features in equal order give equal bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.aggregator_entry import AGGREGATOR_OUTPUTS, SlideTask

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.models.aggregator_entry import AggregatorEntry

_TOLERANCE = 1e-3
_MOST_COLUMNS = 1000


class Aggregation(NamedTuple):
    """What an aggregator says of a slide.

    Attributes
    ----------
    prediction
        float32 (C,), one number for each of the entry's classes.
    attention
        float32 (N, H); columns sum to 1.
    contribution
        float32 (N, C'): what each tile adds to what comes before the last sigmoid or softmax.
    constant
        float32 (C',): what is added to the sum of these.
    """

    prediction: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float32]
    contribution: npt.NDArray[np.float32]
    constant: npt.NDArray[np.float32]


class AggregatorEngine:
    """An aggregator in onnxruntime on one thread.

    Parameters
    ----------
    entry
        What to load.
    n_features
        Length F of a tile's features.

    Attributes
    ----------
    n_attentions, n_logits
        H and C' of `Aggregation`.

    Raises
    ------
    InputError
        When it cannot be loaded, cannot be run on features of that length, or gives what `Aggregation` is not.
    """

    def __init__(self, entry: AggregatorEntry, n_features: int) -> None:
        from pyramidai_mpi.models.engines.onnx_engine import open_session

        self._entry, self._n_features = entry, n_features
        try:
            self._session = open_session(str(entry.onnx_path))
        except Exception as error:  # the library's exceptions share no public base
            raise InputError(f"{entry.onnx_path}: onnxruntime cannot load it: {_one_line(error)}") from error
        found = self.aggregate(np.ones((2, n_features), np.float32))
        self.n_attentions, self.n_logits = found.attention.shape[1], found.contribution.shape[1]

    def aggregate(self, features: npt.NDArray[np.float32]) -> Aggregation:
        """The prediction of a slide of these tiles.

        Parameters
        ----------
        features
            float32 (N, F), N at least 1.

        Raises
        ------
        InputError
            When it cannot be run, or what comes out does not fit.
        """
        path = self._entry.onnx_path
        try:
            found = self._session.run(
                list(AGGREGATOR_OUTPUTS), {"features": np.ascontiguousarray(features, np.float32)}
            )
        except Exception as error:
            raise InputError(
                f"{path}: onnxruntime cannot run it on {len(features)} tiles with {features.shape[1]} features each: "
                f"{_one_line(error)}"
            ) from error
        aggregation = Aggregation(*(np.asarray(one) for one in found))
        if flaw := self._flaw_of(aggregation, len(features)):
            raise InputError(f"{path}: {flaw}")
        return aggregation

    def _flaw_of(self, found: Aggregation, n_tiles: int) -> str:
        """What is wrong with outputs, empty for nothing."""
        n_classes, task = len(self._entry.classes), self._entry.task
        if found.prediction.shape != (n_classes,):
            return f"prediction has shape {found.prediction.shape}, expected ({n_classes},) for the classes described"
        n_logits = {n_classes, 1} if task is SlideTask.BINARY else {n_classes}
        if found.contribution.ndim != 2 or len(found.contribution) != n_tiles:
            return f"contribution has shape {found.contribution.shape}, expected ({n_tiles}, C) for {n_tiles} tiles"
        if found.contribution.shape[1] not in n_logits:
            return f"contribution has {found.contribution.shape[1]} columns, expected {n_classes} for the classes"
        if found.constant.shape != found.contribution.shape[1:]:
            return f"constant has shape {found.constant.shape}, expected {found.contribution.shape[1:]}"
        shape = found.attention.shape
        if len(shape) != 2 or shape[0] != n_tiles or not 1 <= shape[1] <= _MOST_COLUMNS:
            return f"attention has shape {shape}, expected ({n_tiles}, H) for {n_tiles} tiles"
        for name, values in zip(AGGREGATOR_OUTPUTS, found, strict=True):
            if values.dtype != np.float32:
                return f"{name} is {values.dtype}, expected float32"
            if not np.isfinite(values).all():
                return f"{name} is not finite, of {n_tiles} tiles"
        if (abs(found.attention.sum(axis=0, dtype=np.float64) - 1) > _TOLERANCE).any():
            return "columns of attention do not sum to 1"
        if task is not SlideTask.SURVIVAL and (found.prediction.min() < 0 or found.prediction.max() > 1):
            return f"prediction {found.prediction.tolist()!r:.80} is outside [0, 1]"
        sums_to_1 = abs(found.prediction.sum(dtype=np.float64) - 1) <= _TOLERANCE
        if task in {SlideTask.BINARY, SlideTask.CLASSES} and not sums_to_1:
            return f"prediction {found.prediction.tolist()!r:.80} does not sum to 1"
        return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
