"""Networks that segment whole images, in onnxruntime on one thread, a block at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, failed_read
from pyramidai_mpi.models.description import YAML_NAME
from pyramidai_mpi.models.engines.onnx_engine import open_session
from pyramidai_mpi.models.segmentation_package import INPUT, OUTPUT

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.segmentation_package import SegmentationPackage


class SegmentationNetwork:
    """The network of a package, ready to run. Used by one thread at a time.

    Raises
    ------
    InputError
        When onnxruntime cannot load it.
    """

    def __init__(self, package: SegmentationPackage) -> None:
        self.package = package
        try:
            self._session = open_session(str(package.onnx_path))
        except Exception as error:  # onnxruntime's exceptions have no common class
            raise failed_read(package.onnx_path, error) or InputError(
                f"{package.onnx_path}: onnxruntime cannot load it: {_said(error)}"
            ) from error

    def probability(self, pixels: RgbArray) -> npt.NDArray[np.float32]:
        """Of each pixel the probability of the second class.

        Parameters
        ----------
        pixels
            uint8 (H, W, 3), both multiples of the total stride.

        Returns
        -------
        numpy.ndarray
            float32 (H, W); what is no number stays what it is.

        Raises
        ------
        InputError
            When the network cannot be run, or gives another shape.
        """
        path = self.package.onnx_path
        try:
            (found,) = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(pixels)[None]})
        except Exception as error:
            raise InputError(
                f"{path}: cannot be run on {_shape(pixels)} pixels, sides that are multiples of its total_stride, "
                f"{self.package.text.total_stride}; {YAML_NAME} may understate it: {_said(error)}"
            ) from error
        if found.dtype != np.float32 or found.shape != (1, *pixels.shape[:2]):
            raise InputError(
                f"{path}: gives {found.dtype} of shape {found.shape} for {_shape(pixels)} pixels, expected float32 "
                f"of (1, {pixels.shape[0]}, {pixels.shape[1]})"
            )
        return np.asarray(found[0])


def _shape(pixels: RgbArray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
