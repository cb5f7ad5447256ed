"""The gate to OpenVINO."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.libraries import hidden_module
from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine
from pyramidai_mpi.models.package import POSITION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.models.engines.compiled_network import CompiledNetwork
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage

with hidden_module("openvino_telemetry"):  # OpenVINO has a substitute that does nothing
    import openvino

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoEngine(FixedBatchEngine):
    """One network in OpenVINO on one CPU thread. See `FixedBatchEngine`.

    Parameters
    ----------
    level, package, batch_shape, probe
        See `FixedBatchEngine`.
    precision
        ``float32``; or ``bfloat16``, faster where the processor has it and another result. Whole-number operations of
        quantised networks stay what they are.
    compiled
        What `compiled` of another engine gave, of the same network, batch shape and precision on the same machine:
        loads faster than the network's file, to the same results, and with the weights once. None for none.
    """

    backend = "openvino"

    def __init__(
        self,
        level: ModelLevel,
        package: ModelPackage,
        batch_shape: int | None = None,
        precision: str = "float32",
        *,
        probe: bool = True,
        compiled: CompiledNetwork | None = None,
    ) -> None:
        self.precision = precision
        self._given = compiled
        super().__init__(level, package, batch_shape, probe=probe)

    def use_batch_shape(self, batch_shape: int) -> None:
        """See `FixedBatchEngine.use_batch_shape`; OpenVINO compiles for one shape."""
        if batch_shape != self.batch_shape:
            super().use_batch_shape(batch_shape)
            self._load(self._path)

    def compiled(self) -> bytes:
        """See `FixedBatchEngine.compiled`. InceptionV3 in integers: 0.1 s to load from it, 0.6 s from the file."""
        exported: bytes = self._network.export_model().getvalue()
        return exported

    def _load(self, path: Path) -> int:
        core = openvino.Core()
        can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if self.precision == "bfloat16" and "BF16" not in can:
            raise InputError("this processor has no bfloat16; use --precision float32")
        settings = {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            # it would pin the thread of every rank of a host to the same core
            "ENABLE_CPU_PINNING": False,
        }
        given, self._given = self._given, None  # used once: another batch shape is compiled from the file
        if given is not None:
            with given.while_read():
                self._network = core.import_model(openvino.Tensor(given.data, shared_memory=True), "CPU", settings)
        else:
            # a mapped file that is changed under the run would kill the process
            core.set_property({"ENABLE_MMAP": False})
            model = core.read_model(path)
            shapes = dict(zip(self._ports(model.inputs), (self._input_shape, (self.batch_shape, 2)), strict=False))
            model.reshape({model.inputs[port]: list(shape) for port, shape in shapes.items()})
            self._network = core.compile_model(model, "CPU", settings)
        self._in_use = self._ports(self._network.inputs)
        self._request = self._network.create_infer_request()
        self._source = given  # looked into for as long as the network lives, so it goes after it
        return len(self._network.outputs)

    def _ports(self, inputs: Sequence[openvino.ConstOutput]) -> list[int]:
        """Which of the inputs takes pixels, and after it which takes positions, of a network that sees them."""
        if not self.sees_position:
            return [0]
        return sorted(range(len(inputs)), key=lambda port: POSITION in inputs[port].names)

    def _run_graph(
        self, batch: npt.NDArray[np.generic], positions: npt.NDArray[np.float32], n_wanted: int
    ) -> list[npt.NDArray[np.float32]]:
        self._request.infer(dict(zip(self._in_use, (batch, positions), strict=False)), share_inputs=True)
        # copies: the next call writes into the same tensors
        return [np.array(self._request.get_output_tensor(n).data) for n in range(n_wanted)]
