"""The methods by name: what each needs, what it can be told, and what it says. Free of numpy, for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.explain_order import MOST_MASKS
from pyramidai_mpi.base.names import nearest_name

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fill(StrEnum):
    """What stands where pixels are taken away; see `replacement.replacement`."""

    BLUR = "blur"
    """The tile, blurred until nuclei are gone: colour and stain stay, structure does not."""
    MEAN = "mean"
    """The tile's mean colour everywhere."""
    GLASS = "glass"
    """White: empty glass, as if there were no tissue."""


class MethodName(StrEnum):
    """Names of the methods, as on the command line."""

    GRADCAM = "gradcam"
    GRADCAM_PLUS_PLUS = "gradcam++"
    INTEGRATED_GRADIENTS = "integrated-gradients"
    OCCLUSION = "occlusion"
    RISE = "rise"
    LIME = "lime"


@dataclass(frozen=True)
class Option:
    """A number that a method can be told.

    Attributes
    ----------
    name
        As in the constructor of the method and in the settings of a file.
    default, low, high
        Its value when nobody says, and the least and the greatest.
    says
        What it is, for help and pages.
    """

    name: str
    default: float
    low: float
    high: float
    says: str

    @property
    def is_whole(self) -> bool:
        """Whether it counts something."""
        return isinstance(self.default, int)


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes
    ----------
    name
        As on the command line.
    needs_gradients
        Whether it needs a gradient engine; the others need the network's answers only.
    has_layer
        Whether it explains one layer's maps.
    draws
        Whether chance is in it, so that it has a repeatability and can stop when that is reached.
    options
        What it can be told.
    says
        One sentence: what its map shows.
    source
        The paper.
    """

    name: MethodName
    needs_gradients: bool
    has_layer: bool
    draws: bool
    options: tuple[Option, ...]
    says: str
    source: str

    @property
    def perturbs(self) -> bool:
        """Whether it works by masks, in blocks of `perturbation.MASKS_PER_BLOCK`."""
        return not self.needs_gradients

    def settings(self, asked: Mapping[str, float]) -> dict[str, float]:
        """All its options by name, those that are asked for and else the defaults.

        Raises
        ------
        UsageError
            There is no such option, or its value is out of range or no whole number.
        """
        known = {option.name: option for option in self.options}
        for name, value in asked.items():
            option = known.get(name)
            if option is None:
                has = f"; it has: {', '.join(known)}" if known else ", nor any other"
                raise UsageError(f"method {self.name} has no option {name!r}{has}")
            if not option.low <= value <= option.high or (option.is_whole and value != int(value)):
                kind = "a whole number" if option.is_whole else "a number"
                raise UsageError(
                    f"{name} of method {self.name} is {value:g}, expected {kind} from {option.low:g} to {option.high:g}"
                )
        return {
            name: (int if option.is_whole else float)(asked.get(name, option.default)) for name, option in known.items()
        }


_MASKS = "most masks that are drawn"

METHODS: dict[MethodName, Method] = {
    method.name: method
    for method in (
        Method(
            MethodName.GRADCAM,
            needs_gradients=True,
            has_layer=True,
            draws=False,
            options=(),
            says="Where the maps of a layer, weighted by their mean gradients, speak for the class.",
            source="Selvaraju et al., ICCV 2017",
        ),
        Method(
            MethodName.GRADCAM_PLUS_PLUS,
            needs_gradients=True,
            has_layer=True,
            draws=False,
            options=(),
            says="Grad-CAM with places weighted so that a small spot counts as much as a large one.",
            source="Chattopadhay et al., WACV 2018",
        ),
        Method(
            MethodName.INTEGRATED_GRADIENTS,
            needs_gradients=True,
            has_layer=False,
            draws=False,
            options=(Option("steps", 32, 1, 1024, "places between baseline and tile where the gradient is taken"),),
            says="What each pixel adds to the logit on the way from a tile without structure to this one.",
            source="Sundararajan et al., ICML 2017",
        ),
        Method(
            MethodName.OCCLUSION,
            needs_gradients=False,
            has_layer=False,
            draws=False,
            options=(
                Option("cells", 14, 2, 64, "cells on a side of the map"),
                Option("window", 2, 1, 16, "cells on a side of the square that is taken away"),
            ),
            says="How much the probability falls when a square is taken away.",
            source="Zeiler and Fergus, ECCV 2014",
        ),
        Method(
            MethodName.RISE,
            needs_gradients=False,
            has_layer=False,
            draws=True,
            options=(
                Option("n_masks", 4000, 2, MOST_MASKS, _MASKS),
                Option("grid", 7, 2, 32, "cells on a side of the grid that masks are drawn on"),
                Option("keep", 0.5, 0.05, 0.95, "share of its cells that stay"),
                Option("centred", 1, 0, 1, "1: less the mean score, so that chance counts less; 0: the paper's sum"),
            ),
            says="How much more probable the class is under those random masks that leave a place to be seen.",
            source="Petsiuk et al., BMVC 2018",
        ),
        Method(
            MethodName.LIME,
            needs_gradients=False,
            has_layer=False,
            draws=True,
            options=(
                Option("n_masks", 1024, 2, MOST_MASKS, _MASKS),
                Option("segments", 50, 2, 1000, "superpixels that SLIC is asked for"),
                Option("kernel", 0.25, 0.01, 100.0, "width of the kernel over the cosine distance from the whole tile"),
                Option("ridge", 1.0, 0.0, 1e6, "penalty of the weights' squares"),
            ),
            says="Weights of superpixels in the linear model that is nearest to the network around this tile.",
            source="Ribeiro et al., KDD 2016",
        ),
    )
}
"""All methods, in the order in which pages name them."""


def method_named(name: str) -> Method:
    """The method of a name.

    Raises
    ------
    UsageError
        There is none; the message has the nearest name, or all.
    """
    if name in METHODS:
        return METHODS[MethodName(name)]
    near = nearest_name(name, [str(known) for known in METHODS])
    meant = f"did you mean {near!r}?" if near else f"there are: {', '.join(METHODS)}"
    raise UsageError(f"there is no method {name!r}; {meant}")


def default_method(*, has_gradients: bool) -> Method:
    """The method where nobody names one: Grad-CAM where a package has gradients, else occlusion."""
    return METHODS[MethodName.GRADCAM if has_gradients else MethodName.OCCLUSION]
