"""The gate to OpenVINO."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openvino

from pyramidai_mpi.errors import InputError
from pyramidai_mpi.inference.fixed_batch import BATCH_SHAPE, FixedBatchEngine

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.inference.package import ModelLevel, ModelPackage

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoEngine(FixedBatchEngine):
    """One network in OpenVINO on one CPU thread. See `FixedBatchEngine`.

    Parameters
    ----------
    level, package, batch_shape, probe
        As for all.
    precision
        ``float32``; or ``bfloat16``, faster where the processor has it and another result. Whole-number operations of
        quantised networks stay what they are.
    """

    backend = "openvino"

    def __init__(
        self,
        level: ModelLevel,
        package: ModelPackage,
        batch_shape: int = BATCH_SHAPE,
        precision: str = "float32",
        *,
        probe: bool = True,
        compiled: bytes = b"",
    ) -> None:
        self.precision = precision
        super().__init__(level, package, batch_shape, probe=probe, compiled=compiled)

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
        # a mapped file that is changed under the run would kill the process
        core.set_property({"ENABLE_MMAP": False})
        model = core.read_model(path)
        model.reshape({model.inputs[0]: list(self._input_shape)})
        return self._use(core.compile_model(model, "CPU", self._settings))

    def _load_compiled(self, compiled: bytes) -> int:
        return self._use(openvino.Core().import_model(compiled, "CPU", self._settings))

    @property
    def _settings(self) -> dict[str, object]:
        return {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            # it would pin the thread of every rank of a host to the same core
            "ENABLE_CPU_PINNING": False,
        }

    def _use(self, network: openvino.CompiledModel) -> int:
        self._network = network
        self._request = network.create_infer_request()
        return len(network.outputs)

    def _run_graph(self, batch: npt.NDArray[np.generic], n_wanted: int) -> list[npt.NDArray[np.float32]]:
        self._request.infer({0: batch}, share_inputs=True)
        # copies: the next call writes into the same tensors
        return [np.array(self._request.get_output_tensor(n).data) for n in range(n_wanted)]
