"""TorchScript to ONNX, in a child process: a TorchScript file is a program, and loading it may run it.

torch's exporter of today takes no TorchScript. The older one (``dynamo=False``) does, when the whole function is
traced first; it keeps weights as they are and folds batch norms. It is deprecated, but in torch 2.15 still; torch's
private converter from TorchScript to what today's exporter takes is five to twenty times slower, and fails on scripted
networks that check their input's size. Tracing first leaves the script's control flow inside.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyramidai_mpi.base.errors import InputError, failed_read
from pyramidai_mpi.models.package import FloatInput
from pyramidai_mpi.process.sandbox import Trial, run_under_limits
from pyramidai_mpi.training.convert.checked_package import ConvertedNetwork
from pyramidai_mpi.training.convert.tile_classifier import TileClassifier, expected_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = 600
_MEMORY_BYTES = 32 << 30  # of addresses; torch built for GPUs takes more of them than of memory
_OPSET = 17
_GRAPH, _EXPECTED = "network.onnx", "expected.npy"


def convert_torchscript(
    path: Path, side: int, n_logits: int, float_input: FloatInput, scratch: Path, *, seconds: int = _SECONDS
) -> ConvertedNetwork:
    """Convert a TorchScript file, and run it on made-up tiles.

    Parameters
    ----------
    path
        The file; its network takes normalised float32 (B, 3, side, side).
    side, n_logits, float_input
        What it should take and give.
    scratch
        An empty folder.
    seconds
        Most wall time.

    Raises
    ------
    InputError
        When the file is no TorchScript, does not take such tiles, gives another number of values, cannot be
        converted, or does not survive the attempt.
    """
    numbers = [side, n_logits, *float_input.mean, *float_input.std]
    arguments = [os.fspath(path), os.fspath(scratch), *map(repr, numbers)]
    module = "pyramidai_mpi.training.convert.torchscript"
    with Trial(path, module, arguments, seconds=seconds, memory_bytes=_MEMORY_BYTES) as trial:
        trial.check()
    return ConvertedNetwork((scratch / _GRAPH).read_bytes(), np.load(scratch / _EXPECTED, allow_pickle=False))


def convert_here(path: Path, side: int, n_logits: int, float_input: FloatInput) -> ConvertedNetwork:
    """Convert a TorchScript file in this process: what it holds is run without any limit. See `convert_torchscript`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        network = _load(path)
        _check_output(path, network, side, n_logits)
        try:
            graph = _to_onnx(TileClassifier(network, float_input).eval(), side)
        except Exception as error:  # the exporter raises whatever it meets
            raise InputError(f"{path}: torch cannot convert it to ONNX: {_reason(error)}") from error
        return ConvertedNetwork(graph, expected_probabilities(network, float_input, side))


def _convert(arguments: Sequence[str]) -> None:
    path, scratch = Path(arguments[0]), Path(arguments[1])
    side, n_logits = int(arguments[2]), int(arguments[3])
    m0, m1, m2, s0, s1, s2 = map(float, arguments[4:])
    found = convert_here(path, side, n_logits, FloatInput((m0, m1, m2), (s0, s1, s2)))
    np.save(scratch / _EXPECTED, found.expected)
    (scratch / _GRAPH).write_bytes(found.graph)


def _load(path: Path) -> torch.nn.Module:
    try:
        network: torch.nn.Module = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:  # torch raises whatever its reader meets
        raise failed_read(path, error) or InputError(
            f"{path}: no TorchScript file that torch {torch.__version__} reads (damaged, or a state dict?): "
            f"{_reason(error)}"
        ) from error
    return network


def _check_output(path: Path, network: torch.nn.Module, side: int, n_logits: int) -> None:
    try:
        with torch.inference_mode():
            found = network(torch.zeros((2, 3, side, side)))
    except Exception as error:
        raise InputError(f"{path}: does not take tiles of {side} x {side} pixels: {_reason(error)}") from error
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if shape != (2, n_logits):
        raise InputError(
            f"{path}: gives {shape} for two tiles, but config.json has {n_logits} classes: (2, {n_logits})"
        )


def _to_onnx(classifier: TileClassifier, side: int) -> bytes:
    example = (torch.zeros((2, side, side, 3), dtype=torch.uint8),)
    with torch.no_grad():
        traced = torch.jit.trace(classifier, example, check_trace=False)  # type: ignore[no-untyped-call]
    graph = io.BytesIO()
    torch.onnx.export(
        traced,
        example,
        graph,  # type: ignore[arg-type]  # the older exporter takes a file
        dynamo=False,
        input_names=["tiles"],
        output_names=["probabilities"],
        dynamic_axes={"tiles": {0: "batch"}, "probabilities": {0: "batch"}},
        opset_version=_OPSET,
    )
    return graph.getvalue()


def _reason(error: Exception) -> str:
    """The last line of what torch says, which is the error; before it stands the script's own traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[-1].split())[:200]


def main() -> None:
    """The child's work."""
    run_under_limits(_convert)
