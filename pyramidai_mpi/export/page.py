"""Pages from the templates of this room."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np

from pyramidai_mpi import __version__
from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.intended_use import claim_of, scores_mean_nothing
from pyramidai_mpi.export.cells import look_label
from pyramidai_mpi.export.picture import look_colour, score_colour

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from PIL import Image

    from pyramidai_mpi.export.shown import Scale


def page_of(template: str, **values: Any) -> str:
    """Fill in a template; what is put into it is text, never markup."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pyramidai_mpi.export"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["thousands"] = lambda number: f"{number:,}".replace(",", "\u202f")
    environment.filters["seconds"] = _in_seconds
    environment.filters["noun"] = lambda number, noun: counted(number, noun).partition(" ")[2]
    environment.globals |= {"claim_of": claim_of, "scores_mean_nothing": scores_mean_nothing, "look_label": look_label}
    environment.globals["stands_alone"] = _stands_alone
    return environment.get_template(template).render(version=__version__, **values)


def _stands_alone(script: str) -> str:
    """What forbids a page to ask anybody for anything, and to run any script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'


def score_colours(scores: Sequence[float]) -> list[str]:
    """Colours of scores, for CSS."""
    return [_css(colour) for colour in score_colour(np.array(scores, np.float64).reshape(-1))]


def css_ramp(scale: Scale) -> list[str]:
    """Colours along a scale, for CSS."""
    return [_css(colour) for colour in scale.colour(np.linspace(scale.low, scale.high, 9))]


def look_colours(n_levels: int) -> list[str]:
    """Colours of the levels of the last look, level 0 first, for CSS."""
    return [_css(colour) for colour in look_colour(np.arange(n_levels), n_levels)]


def data_uri(image: Image.Image, kind: str, **options: int) -> str:
    """A picture as an address that holds it."""
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _css(colour: npt.NDArray[np.float64]) -> str:
    red, green, blue = np.rint(colour).astype(int).tolist()
    return f"rgb({red} {green} {blue})"


def _in_seconds(seconds: float | None) -> str:
    if seconds is None:
        return "not told"
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
