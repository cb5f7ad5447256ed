"""Gradients of a package's network at its inner maps and at its pixels, in onnxruntime alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.models.backward.answer import answer_of
from pyramidai_mpi.models.backward.closed_form import pooled_gradient
from pyramidai_mpi.models.backward.graph import SEED, backward_graph
from pyramidai_mpi.models.backward.layers import Layer, chosen_layers
from pyramidai_mpi.models.backward.reading import read_network
from pyramidai_mpi.models.backward.writer import NoGradientError
from pyramidai_mpi.models.engines.onnx_engine import open_session
from pyramidai_mpi.models.package import POSITION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.backward.graph import BackwardGraph
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage


class Looked(NamedTuple):
    """What a network says of n tiles, and why.

    Attributes
    ----------
    probabilities
        float32 (n, C).
    activations
        By the layer's name, float32 (n, K, h, w).
    gradients
        By the layer's name, of the class's logit, float32 (n, K, h, w).
    """

    probabilities: npt.NDArray[np.float32]
    activations: dict[str, npt.NDArray[np.float32]]
    gradients: dict[str, npt.NDArray[np.float32]]


class GradientEngine:
    """One level's network with its backward part, on one CPU thread.

    Tiles are looked at one by one, so what is found of a tile depends on the tile alone, bit for bit. A class's logit
    is what the network's last softmax or sigmoid is given for it: of a network with a single one, that and its
    opposite. For packages whose networks take floats it is the output, and pixels are still those of the tile.

    Parameters
    ----------
    level, package
        What to load.
    layers
        Names of layers, see `layers_of`; none for the last maps before the head.
    closed_form
        Whether to use it where there is one (`pooled_gradient`); results differ by rounding alone.

    Attributes
    ----------
    layers
        The layers that are looked at; none where no names were given and the network has no maps.

    Raises
    ------
    UsageError
        When there is no such layer.
    InputError
        When the network cannot be read.
    NoGradientError
        When its gradients at the layers cannot be computed: it computes in integers, or has an operator without a rule.
    """

    def __init__(
        self, level: ModelLevel, package: ModelPackage, layers: Sequence[str] = (), *, closed_form: bool = True
    ) -> None:
        self._path = level.onnx_path
        self._side = package.tile_size
        self._sees_position = package.sees_position
        self._network = read_network(level, package)
        self._answer = answer_of(self._network)
        self.layers: tuple[Layer, ...] = chosen_layers(self._network, layers)
        self._known = self._closed_forms() if closed_form else {}
        names = [layer.name for layer in self.layers]
        self._looking = _Session(
            self._path,
            backward_graph(
                self._network,
                self._answer,
                [self._network.answer, *names],
                [name for name in names if name not in self._known],
            ),
        )
        self._at_pixels: _Session | None = None
        self._forward: _Session | None = None

    def look(self, pixels: RgbArray, column: int, positions: npt.NDArray[np.float32] | None = None) -> Looked:
        """Probabilities, and activations and gradients at the layers.

        Parameters
        ----------
        pixels
            The tiles, uint8 (n, S, S, 3).
        column
            The class whose logit the gradients are of.
        positions
            float32 (n, 2), where the tiles lie, for networks that see it; see `Grid.positions`.

        Raises
        ------
        NoGradientError
            When there are no layers.
        """
        if not self.layers:
            raise NoGradientError(self._path, "it has no maps of its tile that all goes through")
        seed = self._seed(column)
        found = [self._looking.run(given) for given in self._each(pixels, np.uint8, positions, seed)]
        shapes: list[tuple[int, ...]] = [(len(self._answer.columns),), *(layer.shape for layer in self.layers)]
        values = [_stacked([one[i] for one in found], shape) for i, shape in enumerate(shapes)]
        names = [layer.name for layer in self.layers]
        gradients: dict[str, npt.NDArray[np.float32]] = {}
        place = len(shapes)
        for layer in self.layers:
            if layer.name in self._known:
                row = self._answer.columns[column] @ self._known[layer.name]
                gradients[layer.name] = np.broadcast_to(row[:, None, None], (len(pixels), *layer.shape)).copy()
            else:
                gradients[layer.name] = _stacked([one[place] for one in found], layer.shape)
                place += 1
        return Looked(values[0], dict(zip(names, values[1:], strict=True)), gradients)

    def input_gradients(
        self, pixels: npt.NDArray[np.float32], column: int, positions: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """The gradient of a class's logit at every pixel.

        Parameters
        ----------
        pixels
            float32 (n, S, S, 3), 0 to 255; fractions too.
        column, positions
            As in `look`.

        Returns
        -------
        numpy.ndarray
            float32 (n, S, S, 3), by which the logit grows for each step of 1 in a pixel's colour.

        Raises
        ------
        NoGradientError
            When an operator between pixels and logits has no rule.
        """
        self.open_pixels()
        assert self._at_pixels is not None
        seed = self._seed(column)
        found = [self._at_pixels.run(given)[0] for given in self._each(pixels, np.float32, positions, seed)]
        return _stacked(found, (self._side, self._side, 3))

    def open_pixels(self) -> None:
        """Have `input_gradients` ready, or find out that there are none, before the first tile.

        Raises
        ------
        NoGradientError
            See there.
        """
        if self._at_pixels is None:
            graph = backward_graph(self._network, self._answer, [], [self._network.pixels], pixels_are_float=True)
            self._at_pixels = _Session(self._path, graph)

    def logits(
        self, pixels: npt.NDArray[np.float32], positions: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Each class's logit, float32 (n, C), of float32 (n, S, S, 3), 0 to 255; fractions too."""
        if self._forward is None:
            graph = backward_graph(self._network, self._answer, [self._answer.logits], [], pixels_are_float=True)
            self._forward = _Session(self._path, graph)
        rows = [self._forward.run(given)[0].reshape(-1) for given in self._each(pixels, np.float32, positions, None)]
        columns = self._answer.columns
        # by hand, as a product of matrices may round differently for another number of tiles
        return _stacked([np.asarray((columns * row).sum(axis=1), np.float32) for row in rows], (len(columns),))

    def _closed_forms(self) -> dict[str, npt.NDArray[np.float32]]:
        found = {layer.name: pooled_gradient(self._network, self._answer.logits, layer.name) for layer in self.layers}
        return {name: values for name, values in found.items() if values is not None}

    def _seed(self, column: int) -> npt.NDArray[np.float32]:
        columns = self._answer.columns
        if not 0 <= column < len(columns):
            raise UsageError(f"{self._path}: there is no class {column}, expected one of 0..{len(columns) - 1}")
        return columns[column : column + 1]

    def _each(
        self,
        pixels: npt.NDArray[np.generic],
        dtype: npt.DTypeLike,
        positions: npt.NDArray[np.float32] | None,
        seed: npt.NDArray[np.float32] | None,
    ) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """What the graph is given, tile by tile."""
        expected = (len(pixels), self._side, self._side, 3)
        if pixels.shape != expected or pixels.dtype != dtype:
            raise ValueError(
                f"{self._path}: pixels are {pixels.dtype} {pixels.shape}, expected {np.dtype(dtype)} {expected}"
            )
        if self._sees_position and (positions is None or positions.shape != (len(pixels), 2)):
            shape = "none" if positions is None else str(positions.shape)
            raise ValueError(
                f"{self._path}: is told where tiles lie, expected positions ({len(pixels)}, 2), found {shape}"
            )
        for number in range(len(pixels)):
            given = {self._network.pixels: np.ascontiguousarray(pixels[number : number + 1])}
            if self._sees_position and positions is not None:
                given[POSITION] = positions[number : number + 1]
            if seed is not None:
                given[SEED] = seed
            yield given


class _Session:
    """A graph, ready to run."""

    def __init__(self, path: Path, graph: BackwardGraph) -> None:
        self._path, self._outputs = path, list(graph.outputs)
        try:
            self._session = open_session(graph.model)
        except Exception as error:  # the library's exceptions share no public base
            raise NoGradientError(path, f"onnxruntime cannot load their graph: {_one_line(error)}") from error
        self._inputs = {value.name for value in self._session.get_inputs()}

    def run(self, given: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        """The graph's outputs."""
        taken = {name: value for name, value in given.items() if name in self._inputs}
        try:
            found: list[npt.NDArray[np.float32]] = self._session.run(self._outputs, taken)
        except Exception as error:
            raise NoGradientError(self._path, f"onnxruntime cannot run their graph: {_one_line(error)}") from error
        return found


def _stacked(parts: Sequence[npt.NDArray[np.float32]], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """One row for each tile."""
    return np.stack([part.reshape(shape) for part in parts]) if parts else np.empty((0, *shape), np.float32)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
