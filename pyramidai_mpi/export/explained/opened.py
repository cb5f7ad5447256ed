"""A file of explained tiles opened from Python: maps and curves as numpy arrays, the stitched map as a picture."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import printable
from pyramidai_mpi.base.python_errors import raised_in_python
from pyramidai_mpi.export.explained.layer import gain_of, painted
from pyramidai_mpi.export.explained.scales import scale_of
from pyramidai_mpi.export.explained.stitched import pyramid_of, stitched
from pyramidai_mpi.export.explained.table import columns_of, rows_of
from pyramidai_mpi.export.explained.words import CAVEAT, sentences_of, title_of
from pyramidai_mpi.export.page import css_ramp
from pyramidai_mpi.store.explanations.contents import CURVES
from pyramidai_mpi.store.explanations.reader import read_explanation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt
    import pandas as pd

    from pyramidai_mpi.export.explained.stitched import StitchedMap
    from pyramidai_mpi.export.shown import Scale
    from pyramidai_mpi.store.explanations.contents import Explanation

_LONG_SIDE = 480


def explained_dtype(n_classes: int) -> np.dtype[np.void]:
    """One explained tile.

    Returns
    -------
    numpy.dtype
        Fields ``col``, ``row`` (u4), ``l0_x``, ``l0_y``, ``l0_side`` (i8, the window in level-0 pixels),
        ``probability`` (f4, shape (C,), NaN where unreadable), ``score`` (f4, of the class explained),
        ``repeatability`` (f4, NaN where there is no chance in the method) and the areas under the curves,
        ``deletion_area``, ``insertion_area``, ``random_deletion_area``, ``random_insertion_area`` (f8, NaN where nobody
        asked for them).
    """
    return np.dtype(
        [
            ("col", "<u4"),
            ("row", "<u4"),
            ("l0_x", "<i8"),
            ("l0_y", "<i8"),
            ("l0_side", "<i8"),
            ("probability", "<f4", (n_classes,)),
            ("score", "<f4"),
            ("repeatability", "<f4"),
            *((f"{name}_area", "<f8") for name in CURVES),
        ]
    )


@dataclass(frozen=True, repr=False)
class Attribution:
    """Attribution on a regular grid over the slide.

    Attributes
    ----------
    values
        float32 (H, W); NaN where no tile was explained.
    spacing_um_px
        µm per pixel.
    l0_side
        Level-0 pixels per pixel: pixel (x, y) begins at ``l0_side * x``, ``l0_side * y``.
    title
        Method, class, level and layer.
    """

    values: npt.NDArray[np.float32]
    spacing_um_px: float
    l0_side: float
    title: str
    _picture: tuple[StitchedMap, Scale]

    def __repr__(self) -> str:
        height, width = self.values.shape
        share = float(np.isfinite(self.values).mean()) if self.values.size else 0.0
        return printable(
            f"Attribution of {width} x {height} px at {self.spacing_um_px:.4g} µm/px, on {share:.2%} of it: "
            f"{self.title}"
        )

    def _repr_html_(self) -> str:
        picture, scale = self._picture
        data = base64.b64encode(_png(picture, scale)).decode()
        return (
            f'<figure style="margin:0"><img alt="{html.escape(repr(self))}" src="data:image/png;base64,{data}" '
            'style="max-width:100%;image-rendering:pixelated;border:1px solid currentColor"><figcaption>'
            f"{html.escape(repr(self))}<br>{scale.low:.3g} "
            '<span style="display:inline-block;width:8em;height:0.7em;background:linear-gradient(90deg,'
            f'{",".join(css_ramp(scale))})"></span> {scale.high:.3g}<br>{html.escape(CAVEAT)}</figcaption></figure>'
        )


@dataclass(frozen=True, repr=False)
class OpenExplanation:
    """Explained tiles of a slide.

    Attributes
    ----------
    path
        The file.
    explanation
        All that it holds: ``slide``, ``model``, ``method``, ``class_name``, ``level``, ``layer``, ``settings``,
        ``digest``, see `store.explanations.contents.Explanation`.
    """

    path: Path
    explanation: Explanation

    def __len__(self) -> int:
        return len(self.explanation.tiles)

    def __repr__(self) -> str:
        said, tiles = self.explanation, self.explanation.tiles
        height, width = tiles.maps.shape[1:]
        lines = [
            f"OpenExplanation of {self.path.name}: {title_of(said)}",
            f"slide    {said.slide.name}; model {said.model.name}",
            f"tiles    {counted(len(tiles), 'tile')}, {len(said.failed)} unreadable; maps of {width} x {height} px",
        ]
        if gain := gain_of(said):
            lines.append(f"areas    deletion {gain[0]:.3f} below random maps', insertion {gain[1]:.3f} above (means)")
        return "\n".join(map(printable, [*lines, sentences_of(said).partition(". ")[2]]))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>{self.stitched()._repr_html_()}"

    @cached_property
    def tiles(self) -> npt.NDArray[np.void]:
        """All explained tiles in row-major order, records of `explained_dtype`."""
        said, tiles = self.explanation, self.explanation.tiles
        records = np.zeros(len(tiles), explained_dtype(len(said.model.classes)))
        records["col"], records["row"] = tiles.index.T
        records["l0_x"], records["l0_y"] = tiles.l0_coords.T
        records["l0_side"], records["probability"] = tiles.l0_side, tiles.probability
        records["score"], records["repeatability"] = said.score, tiles.repeatability
        areas = tiles.areas()
        for name in CURVES:
            records[f"{name}_area"] = areas.get(name, np.nan)
        return records

    @property
    def maps(self) -> npt.NDArray[np.float32]:
        """The maps, float32 (N, h, w), rows as `tiles`: more speaks more for the class; NaN where unreadable."""
        return self.explanation.tiles.maps

    @cached_property
    def curves(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """The class's score after each step of deletion and insertion, float32 (N, S+1) by name; (N, 0) for none."""
        return {name: getattr(self.explanation.tiles, name) for name in CURVES}

    @property
    def digest(self) -> str:
        """What ``pyramidai digest`` prints: equal explanations, equal digests."""
        return self.explanation.digest

    def stitched(self) -> Attribution:
        """All maps as one of the slide, averaged where windows overlap: see `stitched.stitched`.

        Pixels are those of the maps; of maps so fine that the picture would have more than 2**28 pixels they are 2, 4,
        ... of them a side.
        """
        picture = stitched(self.explanation)
        spacing = picture.l0_side * self.explanation.slide.mpp
        shown = picture, scale_of(self.explanation)
        return Attribution(picture.values(), spacing, picture.l0_side, title_of(self.explanation), shown)

    def to_pandas(self) -> pd.DataFrame:
        """The tiles as a data frame with the columns of ``pyramidai export --csv``.

        Raises
        ------
        ImportError
            When pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas: pip install 'pyramidai-mpi[pandas]'") from error
        rows: list[list[Any]] = rows_of(self.explanation)
        return pd.DataFrame(rows, columns=columns_of(self.explanation))


def opened_explanation(path: Path) -> OpenExplanation:
    """Read a file of explained tiles.

    Raises
    ------
    InputError
        When it is no complete, undamaged one.
    """
    with raised_in_python(path):
        explanation = read_explanation(path)
    for table in vars(explanation.tiles).values():
        table.flags.writeable = False
    return OpenExplanation(path, explanation)


def _png(picture: StitchedMap, scale: Scale) -> bytes:
    levels = pyramid_of(picture, signed=scale.is_signed)
    shown = next((one for one in levels if max(one.shape) <= _LONG_SIDE), levels[-1])
    stream = io.BytesIO()
    Image.fromarray(painted(shown.values(), scale)).save(stream, format="PNG")
    return stream.getvalue()
