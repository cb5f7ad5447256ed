"""The gate to onnxruntime."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

import onnxruntime

from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine
from pyramidai_mpi.models.package import POSITION

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

# for a program that has loaded onnxruntime before this package could silence it
onnxruntime.disable_telemetry_events()

_ARENA_LOCK = Lock()


class OnnxEngine(FixedBatchEngine):
    """One network in onnxruntime on one CPU thread that never spins. See `FixedBatchEngine`."""

    backend = "onnxruntime"

    def _load(self, path: Path) -> int:
        self._session = open_session(str(path))
        names = [value.name for value in self._session.get_inputs()]
        self._input = next((name for name in names if not (self.sees_position and name == POSITION)), "")
        self._outputs = [output.name for output in self._session.get_outputs()]
        return len(self._outputs)

    def _run_graph(
        self, batch: npt.NDArray[np.generic], positions: npt.NDArray[np.float32], n_wanted: int
    ) -> list[npt.NDArray[np.float32]]:
        given = {self._input: batch, **({POSITION: positions} if self.sees_position else {})}
        found: list[npt.NDArray[np.float32]] = self._session.run(self._outputs[:n_wanted], given)
        return found


def open_session(model: str | bytes) -> onnxruntime.InferenceSession:
    """A graph, from its file or its bytes, ready to run on one thread that never spins, in the common arena."""
    with _ARENA_LOCK:
        _share_one_arena()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def _share_one_arena() -> None:
    """Have all networks of the process compute in one piece of memory; in a rank, they never run at the same time.

    With one each, three InceptionV3 keep 110 MB more, of which two thirds are idle at any time. It grows by what is
    asked for instead of doubling.
    """
    info = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(info, onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1}))
