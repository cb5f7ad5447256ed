"""The perturbation that is asked for by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.explain.lime import Lime
from pyramidai_mpi.explain.methods import Fill, Method, MethodName
from pyramidai_mpi.explain.occlusion import Occlusion
from pyramidai_mpi.explain.rise import Rise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyramidai_mpi.explain.perturbation import Perturbation


def make_perturbation(method: Method, side: int, asked: Mapping[str, float], fill: Fill = Fill.BLUR) -> Perturbation:
    """A perturbation of tiles of this side.

    Parameters
    ----------
    method
        One that `perturbs`.
    side
        Of a tile in pixels.
    asked
        Options by name; see `Method.settings`.
    fill
        What stands where pixels are taken away.

    Raises
    ------
    UsageError
        An option is none or out of range, or the method works by gradients.
    """
    settings = method.settings(asked)
    if method.name is MethodName.OCCLUSION:
        cells, window = int(settings["cells"]), int(settings["window"])
        if not window < cells <= side:
            raise UsageError(f"a square of {window} of {cells} cells on {side} pixels: take window < cells <= {side}")
        return Occlusion(side, cells, window, fill)
    if method.name is MethodName.RISE:
        drawn, grid = int(settings["n_masks"]), int(settings["grid"])
        return Rise(side, drawn, grid, settings["keep"], bool(settings["centred"]), fill)
    if method.name is MethodName.LIME:
        segments = int(settings["segments"])
        return Lime(side, int(settings["n_masks"]), segments, settings["kernel"], settings["ridge"], fill)
    raise UsageError(f"method {method.name} works by gradients and has no masks")
