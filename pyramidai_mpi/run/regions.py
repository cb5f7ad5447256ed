"""Where on a slide a run may look: regions of interest, exclusions and tissue masks that the caller gives.

All that a caller may say is a change of the mask, made by the rank that finds the tissue: (given, all or segmented) and
region of interest and not excluded. So it decides which tiles exist and nothing else, and whoever reads the mask from
the result need not know. A mask pixel belongs to an outline that covers any of it: nothing that was asked for is missed
and nothing that was ruled out is looked at, at the price of a mask pixel around; where both meet, exclusion wins. A
given mask counts where it covers at least half of the pixel's part inside the slide, so areas stay what they are. A
file of patches will do as a mask: its cells are the tissue, and a run on the file in its slide's place then looks at
each of them, where looking for tissue anew, in fewer pixels, would find somewhat less here and more there.

A file must be there for each slide, so that a misspelt name is never the whole slide; where there is nothing to exclude
it has no outlines. Points of GeoJSON are taken from the corner of the slide's bounds, as QuPath shows it, those of ASAP
XML from the slide's.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.base.patch_order import ENDING, is_patch_file, slide_stem
from pyramidai_mpi.pyramid.tissue import RegionFile, TissueSource
from pyramidai_mpi.run.tissue_network import method_of
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import PLACES
from pyramidai_mpi.truth.asap import read_asap
from pyramidai_mpi.truth.coverage import UNIT, at_least_half, cover_blocks, cover_rings
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
_MASKS = ("_mask.png", "_mask.tif", "_mask.tiff", ".png", ".tif", ".tiff", ENDING)


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
        How tissue is found where it is not given, see `tissue_network.method_of`.
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
        return cls(found, source.regions.no_tissue, method_of(source))

    def source(self) -> TissueSource:
        """How a mask by these files comes about.

        Raises
        ------
        InputError
            When one cannot be read.
        """
        method = "none" if self.no_tissue else "given" if "tissue_mask" in self.paths else self.method
        method += ", within roi" * ("roi" in self.paths) + ", without excluded" * ("exclude" in self.paths)
        files = tuple(RegionFile(role, path.name, file_sha256(path)) for role, path in self.paths.items())
        return TissueSource(method, files)

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
    if is_patch_file(path):
        covered = _covered_by_cells(path, l0_size, shape, downsample)
    else:
        with input_errors(path), path.open("rb") as file:
            is_png = file.read(8) == b"\x89PNG\r\n\x1a\n"
        mask = open_png_mask(path, l0_size) if is_png else open_mask(path, l0_size)
        covered = mask.coverage(shape, downsample)
    return at_least_half(covered, l0_size, downsample)


def _covered_by_cells(
    path: Path, l0_size: tuple[int, int], shape: tuple[int, int], downsample: float
) -> npt.NDArray[np.int32]:
    """As `LabelMask.coverage`, by the cells of a file of patches."""
    with PatchFile(path) as file:
        settings, slide = file.header.settings, file.header.slide
        if settings.places != PLACES[0]:
            raise InputError(f"{path}: its patches are no cells of a grid over the slide; give a mask of the tissue")
        if slide.l0_size != l0_size:
            raise InputError(
                f"{path}: has patches of {slide.name}, of {slide.l0_size[0]} x {slide.l0_size[1]} px, and this slide "
                f"has {l0_size[0]} x {l0_size[1]}; give the slide's own"
            )
        patches = file.patches
    side = settings.stride * settings.downsample
    cells = np.zeros([math.ceil(extent / side) for extent in reversed(l0_size)], bool)
    cells[patches["row"], patches["col"]] = True
    covered = np.zeros(shape, np.float64)
    cover_blocks(cells, (0, 0), (side / downsample, side / downsample), covered)
    return np.clip(np.rint(covered * UNIT), 0, UNIT).astype(np.int32)


def _named_like(slide: Path, folder: Path, endings: tuple[str, ...]) -> Path:
    """The file of a folder that is named like a slide, without regard to case.

    The slide itself is none, nor is the one beside a file of patches that these were made from. Of masks
    ``NAME_mask`` goes before ``NAME``, which may be another slide's picture, and a file of patches comes last.
    """
    stem = slide_stem(slide)
    with input_errors(folder):
        present = {path.name.casefold(): path for path in sorted(folder.iterdir()) if path.is_file()}
        if is_patch_file(slide) and slide.parent.samefile(folder):
            with PatchFile(slide) as file:
                present.pop(file.header.slide.name.casefold(), None)
        found = [
            path
            for ending in endings
            # a file of patches says where its own tissue is
            if (path := present.get(f"{stem}{ending}".casefold())) is not None
            and (ending == ENDING or not path.samefile(slide))
        ]
    if len(found) > 1 and is_patch_file(found[-1]):
        found.pop()
    if masks := [path for path in found if path.stem.casefold().endswith("_mask")]:
        found = masks
    if len(found) > 1:
        raise InputError(f"{folder}: {found[0].name} and {found[1].name} are both named like {slide.name}; keep one")
    if not found:
        raise InputError(
            f"{folder}: has no file for {slide.name}: looked for {stem} + {', '.join(endings)}; every slide "
            "needs its own, one with nothing to exclude a file without outlines"
        )
    return found[0]
