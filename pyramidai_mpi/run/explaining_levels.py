"""Opening slides for explanations: as the run saw them, with the units of work that are known to be wanted."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.analyses.explain import CURVE_STEPS, UnitRule
from pyramidai_mpi.base.errors import InputError, PyramidError
from pyramidai_mpi.explain.methods import MethodName
from pyramidai_mpi.models.stain.map import StainMap
from pyramidai_mpi.process.host import cpu_description, host_name
from pyramidai_mpi.pyramid.tissue import TissueSource
from pyramidai_mpi.run.deciding import odd_levels_fact, versions_of
from pyramidai_mpi.run.facts import Fact, Kind, description_hash
from pyramidai_mpi.run.opening import describe, lay_under, open_as_described, open_under
from pyramidai_mpi.run.pool.messages import SlideDescription
from pyramidai_mpi.slides.readers.base import ClosedReader
from pyramidai_mpi.slides.readers.trial import try_opening

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.analyses.explain import Explain
    from pyramidai_mpi.base.explain_order import ExplainOrder
    from pyramidai_mpi.base.settings import SlideInput
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.run.explaining_tiles import ChosenTiles
    from pyramidai_mpi.run.facts import Facts

_LIBRARIES = {MethodName.LIME: ("scikit-image", "scipy")}
"""Of methods that need more than SciPy, which blurs what is taken away: superpixels are scikit-image's."""


@dataclass(frozen=True)
class SlideState:
    """How far a slide has come, once a pool of work is done.

    Attributes
    ----------
    rounds
        int64 (N,), see `UnitRule`.
    scores
        Likewise.
    stain_map
        JSON of the map of the slide's stain; empty for none.
    """

    rounds: npt.NDArray[np.int64]
    scores: tuple[npt.NDArray[np.float32], ...]
    stain_map: str

    def to_bytes(self) -> bytes:
        """For the way to the other ranks."""
        file = io.BytesIO()
        lengths = np.array([len(one) for one in self.scores], np.int64)
        scores = np.concatenate([np.empty(0, np.float32), *self.scores])
        np.savez(file, rounds=self.rounds, lengths=lengths, scores=scores, stain=np.array(self.stain_map))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> SlideState:
        """Inverse of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            ends = np.cumsum(arrays["lengths"])[:-1]
            scores = tuple(np.split(arrays["scores"], ends)) if len(arrays["lengths"]) else ()
            return cls(arrays["rounds"], scores, str(arrays["stain"]))


@dataclass(frozen=True)
class TileOpener:
    """How slides are opened whose tiles are explained.

    Attributes
    ----------
    package, explain
        The model, and what is done.
    """

    package: ModelPackage
    explain: Explain

    def source_of(self, source: SlideInput, chosen: ChosenTiles) -> SlideInput:
        """A slide as the run that made the result has taken it.

        Raises
        ------
        InputError
            When something else is asked for.
        """
        said = chosen.result
        if said is None:
            return source
        if source.mpp is not None and source.mpp != said.mpp:
            raise InputError(f"--mpp {source.mpp:g}: {said.name} is of a run at {said.mpp:g} µm/px; leave --mpp out")
        mpp = None if said.levels == "scale" else said.mpp
        return replace(source, mpp=mpp, levels=said.levels, allow_upsampling=True, odd_levels=said.odd_levels)

    def open(self, source: SlideInput, chosen: ChosenTiles) -> OpenSlide:
        """Open a slide without its stain.

        Raises
        ------
        InputError
            When it cannot be opened, or is another one than the result's.
        """
        slide = open_under(self.source_of(source, chosen), self.package)
        try:
            _check_slide(slide, chosen)
        except BaseException:
            slide.pyramid.reader.close()
            raise
        return slide

    def describe(
        self, source: SlideInput, chosen: ChosenTiles, state: SlideState | None
    ) -> tuple[OpenSlide, UnitRule, SlideDescription]:
        """Open a slide that no rank has opened before, after a child process has survived that; raises as `open`."""
        package = self.package
        estimates = package.stain_target is not None and package.stain_per == "slide"
        if state is None and estimates and chosen.result is None:
            slide, _, description = describe(source, package)
            description = replace(description, mask=np.ones((1, 1), bool))
        else:
            if state is None:  # else it has been opened
                taken = self.source_of(source, chosen)
                with try_opening(taken.path, taken.reader, taken.odd_levels) as trial:
                    trial.check()
            slide = self.open(source, chosen)
            stain = chosen.result.stain_map if state is None and chosen.result is not None else ""
            if state is not None:
                stain = state.stain_map
            slide = replace(slide, stain=StainMap.from_json(stain) if stain and estimates else None)
            info, mask = slide.pyramid.reader.info, np.ones((1, 1), bool)
            description = SlideDescription(info, slide.quickhash, slide.mpp, host_name(), mask, slide.stain)
        try:
            return slide, self.rule(slide, chosen, state), description
        except PyramidError:
            slide.pyramid.reader.close()
            raise

    def follow(
        self, source: SlideInput, description: SlideDescription, chosen: ChosenTiles, state: SlideState | None
    ) -> tuple[OpenSlide, UnitRule]:
        """Open a slide that another rank has described.

        Raises
        ------
        InputError
            When this host cannot open it, or sees another file.
        """
        taken = self.source_of(source, chosen)
        slide = open_as_described(taken, description, lambda info: open_under(taken, self.package, info))
        return replace(slide, stain=description.stain), self.rule(slide, chosen, state)

    def known(
        self, source: SlideInput, description: SlideDescription, chosen: ChosenTiles, state: SlideState | None
    ) -> tuple[OpenSlide, UnitRule]:
        """A slide as another rank has described it, for a rank that reads no pixels of it."""
        reader = ClosedReader(replace(description.info, path=source.path))
        taken = self.source_of(source, chosen)
        slide = lay_under(reader, taken, self.package, description.mpp, description.quickhash)
        return replace(slide, stain=description.stain), self.rule(slide, chosen, state)

    def rule(self, slide: OpenSlide, chosen: ChosenTiles, state: SlideState | None) -> UnitRule:
        """The units that are wanted; raises as `ChosenTiles.of`."""
        tiles = chosen.of(slide.pyramid.grid, self.explain.level, str(slide.source.path))
        rows = self.explain.rounds.most_units
        if state is not None:
            return UnitRule.of(tiles, rows, state.rounds, state.scores)
        # without masks, maps wait for nothing
        wanted = np.full(len(tiles), 0 if self.explain.rounds.n_masks else 1, np.int64)
        return UnitRule.of(tiles, rows, wanted)


def _check_slide(slide: OpenSlide, chosen: ChosenTiles) -> None:
    said = chosen.result
    if said is not None and slide.quickhash != said.quickhash:
        raise InputError(
            f"{slide.source.path}: is not the slide that {said.name} was made from (quick hash {slide.quickhash[:8]}, "
            f"not {said.quickhash[:8]}); give that with --slide"
        )


def settings_of(explain: Explain, order: ExplainOrder) -> dict[str, Any]:
    """All numbers that decide maps and curves, as the file says them."""
    said: dict[str, Any] = {
        **explain.method.settings(order.asked),
        "seed": order.seed,
        "fill": str(explain.fill),
        "curve_steps": CURVE_STEPS if explain.faithfulness else 0,
    }
    return said if order.until is None else {**said, "until": order.until}


def facts_of_explanation(
    slide: OpenSlide, package: ModelPackage, explain: Explain, settings: Mapping[str, Any], tiles: npt.NDArray[np.int64]
) -> Facts:
    """What decides the explanations of a slide.

    Parameters
    ----------
    settings
        See `settings_of`.
    tiles
        int64 (N, 2): col, row of the tiles, row-major.
    """
    stain_map = "" if slide.stain is None else slide.stain.to_json()
    libraries: Sequence[str] = ("onnxruntime", *_LIBRARIES.get(explain.method.name, ("scipy",)))
    return (
        Fact("quickhash", "slide", slide.quickhash, Kind.SLIDE, has_own_place=True),
        Fact("mpp", "µm/px", float(slide.mpp), Kind.SLIDE, has_own_place=True),
        Fact(
            "patches_digest",
            "file of patches in the slide's place",
            slide.pyramid.reader.info.patches_digest,
            Kind.SLIDE,
        ),
        *odd_levels_fact(slide.pyramid.reader.info),
        Fact("stain_map", "stain of the slide", stain_map, Kind.SLIDE),
        Fact("network_sha256", "network", package.levels[explain.level].sha256, Kind.MODEL, has_own_place=True),
        Fact("model_yaml_sha256", "model.yaml", description_hash(package.yaml_text), Kind.MODEL),
        Fact("method", "--method", str(explain.method.name), Kind.SETTING, has_own_place=True),
        Fact("class", "--class", package.classes[explain.column], Kind.SETTING, has_own_place=True),
        Fact("level", "--level", explain.level, Kind.SETTING, has_own_place=True),
        Fact("layer", "--layer", explain.layer, Kind.SETTING, has_own_place=True),
        Fact("settings", "settings", settings_text(settings), Kind.SETTING, has_own_place=True),
        Fact("tiles_sha256", "--tiles", tiles_hash(tiles), Kind.SETTING),
        Fact("backend", "backend", "onnxruntime", Kind.SETTING),
        Fact("batch_shape", "batch shape", explain.engine.batch_shape, Kind.VERSION),
        *versions_of(slide, TissueSource("none"), libraries),
        Fact("cpu", "processor", cpu_description(), Kind.PROCESSOR),
    )


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as JSON, the same for the same settings."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


def tiles_hash(tiles: npt.NDArray[np.integer]) -> str:
    """SHA-256 of places (N, 2) of tiles, row-major."""
    return hashlib.sha256(np.ascontiguousarray(tiles, "<i8").tobytes()).hexdigest()
