"""The gate to timm, and to torchvision behind it."""

from __future__ import annotations

import torch


def _declare_operators() -> None:
    """Let torchvision be imported without its library.

    PyPI's torchvision for Linux is built for GPUs: beside a CPU build of torch its library does not load, and its
    import then fails for want of two operators that it only annotates. timm needs the import and none of these.
    """
    declared = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _KEPT.append(declared)  # operators go with the object that declared them


_KEPT: list[object] = []
try:
    import torchvision  # noqa: F401
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    _declare_operators()
import timm  # noqa: E402
import timm.data  # noqa: E402

__all__ = ["timm"]
