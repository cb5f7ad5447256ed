"""Where on a slide a run may look: regions of interest, exclusions and tissue masks that the caller gives.

All that a caller may say is a change of the mask, made by the rank that finds the tissue: (given, all or segmented) and
region of interest and not excluded. So it decides which tiles exist and nothing else, and whoever reads the mask from
the result need not know. A mask pixel belongs to an outline that covers any of it: nothing that was asked for is missed
and nothing that was ruled out is looked at, at the price of a mask pixel around; where both meet, exclusion wins. A
given mask counts where it covers at least half of the pixel's part inside the slide, so areas stay what they are.

A file must be there for each slide, so that a misspelt name is never the whole slide; where there is nothing to exclude
it has no outlines. Points of GeoJSON are taken from the corner of the slide's bounds, as QuPath shows it, those of ASAP
XML from the slide's.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.pyramid.tissue import RegionFile, TissueSource, found_by
from pyramidai_mpi.truth.asap import read_asap
from pyramidai_mpi.truth.coverage import UNIT, cover_rings
from pyramidai_mpi.truth.geojson import outlines_of_geojson, read_json
from pyramidai_mpi.truth.geometry import outlined_area
from pyramidai_mpi.truth.label_mask import open_mask
from pyramidai_mpi.truth.png_mask import open_png_mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.settings import SlideInput
    from pyramidai_mpi.slides.readers.base import SlideInfo

log = logging.getLogger(__name__)

_OUTLINES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".xml")
_MASKS = ("_mask.png", "_mask.tif", "_mask.tiff", ".png", ".tif", ".tiff")


@dataclass(frozen=True)
class RegionFiles:
    """The files that restrict the run of one slide.

    Attributes
    ----------
    paths
        By role, in the order of `tissue.REGION_ROLES`.
    no_tissue
        All of the slide is tissue.
    method
        How tissue is found where it is not given, see `pyramid.tissue.found_by`.
    """

    paths: dict[str, Path]
    no_tissue: bool
    method: str

    @classmethod
    def find(cls, source: SlideInput) -> RegionFiles:
        """The files of a slide: those given, or, where folders are given, the ones there that are named like it.

        Raises
        ------
        InputError
            When a folder has none for the slide, or more than one.
        """
        found = {}
        for role, path in source.regions.paths().items():
            endings = _MASKS if role == "tissue_mask" else _OUTLINES
            found[role] = _named_like(source.path, path, endings) if path.is_dir() else path
        return cls(found, source.regions.no_tissue, found_by(source.tissue, source.tissue_limit))

    def source(self) -> TissueSource:
        """How a mask by these files comes about.

        Raises
        ------
        InputError
            When one cannot be read.
        """
        method = "none" if self.no_tissue else "given" if "tissue_mask" in self.paths else self.method
        method += ", within roi" * ("roi" in self.paths) + ", without excluded" * ("exclude" in self.paths)
        files = []
        for role, path in self.paths.items():
            with input_errors(path), path.open("rb") as file:
                files.append(RegionFile(role, path.name, hashlib.file_digest(file, "sha256").hexdigest()))
        return TissueSource(method, tuple(files))

    def mask(
        self, info: SlideInfo, downsample: float, segment: Callable[[], npt.NDArray[np.bool_]]
    ) -> npt.NDArray[np.bool_]:
        """Tissue within the regions.

        Parameters
        ----------
        info
            The slide.
        downsample
            Level-0 pixels per mask pixel.
        segment
            Gives the slide's own tissue mask, where no other is given.

        Returns
        -------
        numpy.ndarray
            bool (H, W). A mask pixel is in a region of interest, or excluded, when its outlines cover any of it; it is
            tissue by a given mask when that covers at least half of its part inside the slide.

        Raises
        ------
        InputError
            When a file cannot be used, or a region of interest is empty.
        """
        width, height = (math.ceil(extent / downsample) for extent in info.l0_size)
        shape = (height, width)
        # outlines before pixels: they are read in no time, and a mistake shows at once
        roi = self._outlined("roi", info, shape, downsample)
        excluded = self._outlined("exclude", info, shape, downsample)
        if roi is not None and not roi.any():
            raise InputError(f"{self.paths['roi']}: outlines no area, so there is nothing to analyse; check the file")
        if "tissue_mask" in self.paths:
            mask = _given_tissue(self.paths["tissue_mask"], info.l0_size, shape, downsample)
        else:
            mask = np.ones(shape, bool) if self.no_tissue else segment()
        if roi is not None:
            mask = mask & roi
        return mask if excluded is None else mask & ~excluded

    def _outlined(
        self, role: str, info: SlideInfo, shape: tuple[int, int], downsample: float
    ) -> npt.NDArray[np.bool_] | None:
        path = self.paths.get(role)
        if path is None:
            return None
        if path.suffix.lower() == ".xml":
            found, corner = read_asap(path), (0, 0)
        else:
            found, corner = outlines_of_geojson(path, read_json(path)), info.l0_bounds
        # QuPath shows a slide from the corner of its bounds on
        area = outlined_area(path, found.shifted(corner), info.l0_size)
        for note in area.notes:
            log.warning("%s: %s", path, note)
        return cover_rings(area.rings(), downsample, shape) > 0


def _given_tissue(
    path: Path, l0_size: tuple[int, int], shape: tuple[int, int], downsample: float
) -> npt.NDArray[np.bool_]:
    with input_errors(path), path.open("rb") as file:
        is_png = file.read(8) == b"\x89PNG\r\n\x1a\n"
    mask = open_png_mask(path, l0_size) if is_png else open_mask(path, l0_size)
    covered = mask.coverage(shape, downsample)
    # the last row and column may reach beyond the slide
    inside_x, inside_y = (
        np.clip(extent / downsample - np.arange(n), 0, 1) for extent, n in zip(l0_size, shape[::-1], strict=True)
    )
    return np.asarray(covered >= np.floor(0.5 * UNIT * inside_y[:, None] * inside_x[None, :]).clip(1))


def _named_like(slide: Path, folder: Path, endings: tuple[str, ...]) -> Path:
    """The file of a folder that is named like a slide, without regard to case; the slide itself is none.

    Of masks ``NAME_mask`` goes before ``NAME``, which may be another slide's picture.
    """
    with input_errors(folder):
        present = {path.name.casefold(): path for path in sorted(folder.iterdir()) if path.is_file()}
        found = [
            path
            for ending in endings
            if (path := present.get(f"{slide.stem}{ending}".casefold())) is not None and not path.samefile(slide)
        ]
    if masks := [path for path in found if path.stem.casefold().endswith("_mask")]:
        found = masks
    if len(found) > 1:
        raise InputError(f"{folder}: {found[0].name} and {found[1].name} are both named like {slide.name}; keep one")
    if not found:
        raise InputError(
            f"{folder}: has no file for {slide.name}: looked for {slide.stem} + {', '.join(endings)}; every slide "
            "needs its own, one with nothing to exclude a file without outlines"
        )
    return found[0]
