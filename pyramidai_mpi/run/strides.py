"""From what is asked of windows and the model to the levels of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.settings import STRIDE_MODES
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.pyramid.blocks import BlockRule
from pyramidai_mpi.pyramid.refining import Band
from pyramidai_mpi.pyramid.run_levels import doubling_strides, plain_levels, stepped_levels, uniform_levels
from pyramidai_mpi.run.facts import Fact, Kind

if TYPE_CHECKING:
    from pyramidai_mpi.base.settings import RunSettings, Schedule, Windows
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.pyramid.run_levels import RunLevels
    from pyramidai_mpi.run.facts import Facts

_CELLS_OF_SHARED_STEPS = 16
"""Along the side of a block of adaptive strides that a pass may compute together: of 8, most of a pass is margin."""

NO_STRIDE = Fact("stride", "--stride", "", Kind.SETTING)
"""Of a run whose windows lie side by side. It stands in no table: journals and results of before strides match."""
FACTS_OF_STRIDES = ("stride", "stride_mode", "allow_approximate", "strides", "band")
"""Names of the facts that only runs with strides have."""

_WINDOWS_COMPARED = 32
"""Of a block of an approximate run, whose blocks may be few: a slide is to have some hundred of them."""

_MOST_BLOCKS_AT_ONCE = 4
"""Blocks of windows in a batch."""


@dataclass(frozen=True)
class LevelPlan:
    """The levels of a run.

    Attributes
    ----------
    levels
        The levels.
    stride
        Pixels of the model's level 0 from one window to the next; 0 where nothing was said of it.
    rule
        Which blocks of windows are looked at; None where tiles are single windows.
    """

    levels: RunLevels
    stride: int = 0
    rule: BlockRule | None = None

    @property
    def band(self) -> Band | None:
        """Which cells are refined, of strides in steps."""
        return None if self.rule is None else self.rule.band

    def facts(self, windows: Windows) -> Facts:
        """How far apart windows lie, where that is not side by side: journals of other runs do not know of it."""
        if self.levels.is_plain:
            return ()
        band = self.band
        facts = [
            replace(NO_STRIDE, value=self.stride),
            Fact("stride_mode", "--stride-mode", windows.mode, Kind.SETTING),
            Fact("allow_approximate", "--allow-approximate", windows.allow_approximate, Kind.SETTING),
            Fact("strides", "strides", " ".join(str(level.cell) for level in self.levels.each), Kind.SETTING),
        ]
        if band is not None:
            limits = json.dumps([band.low, band.high, band.step])
            facts.append(Fact("band", "limits of what is refined", limits, Kind.SETTING))
        return tuple(facts)


def plan_levels_of_run(settings: RunSettings, package: ModelPackage) -> LevelPlan:
    """Lay out the levels of a run.

    Raises
    ------
    UsageError
        When the stride does not fit the model's windows, or what else is asked does not go with it.
    """
    windows, side = settings.windows, package.tile_size
    plain = plain_levels(package.n_levels, side)
    if not windows.given:
        return LevelPlan(plain)
    stride = windows.stride if windows.stride is not None else max(1, round(side * (1 - (windows.overlap or 0))))
    if stride > side:
        raise UsageError(
            f"--stride {stride}: leaves out pixels between windows of {side}; expected 1 to {side} for model "
            f"{package.name}"
        )
    if windows.mode != STRIDE_MODES[0] and stride * 2 > side:
        raise UsageError(
            f"--stride-mode {windows.mode}: windows of {side} px that lie {stride} px apart share too little, and no "
            f"coarser stride is left; leave it out, or give a --stride up to {side // 2}"
        )
    if stride == side:
        return LevelPlan(plain, stride)
    if settings.model.features:
        raise UsageError(
            "--features: are not kept of overlapping windows; leave --stride out, or use patches extract --stride"
        )
    if windows.is_shared and (settings.model.backend, settings.model.precision) != ("onnxruntime", "float32"):
        raise UsageError(f"--stride-mode {windows.mode}: is computed by onnxruntime alone; leave out --backend")
    if windows.is_shared and package.sees_position:
        raise UsageError(
            f"--stride-mode {windows.mode}: model {package.name} is told where each window lies (inputs: [position]), "
            f"so windows cannot share a pass; use --stride-mode {'adaptive' if windows.is_adaptive else 'window'}"
        )
    factor, n_levels = package.scale_factor, package.n_levels
    band = None
    if windows.is_adaptive:
        if settings.mode is Mode.EXHAUSTIVE:
            raise UsageError(
                f"--mode exhaustive: looks at everything, and --stride-mode {windows.mode} leaves out; use "
                "--stride-mode window or shared"
            )
        levels = stepped_levels(
            n_levels,
            side,
            factor,
            _steps(windows.mode, stride, package),
            under_pyramid=settings.mode is Mode.PYRAMID and n_levels > 1,
            **({"cells": _CELLS_OF_SHARED_STEPS} if windows.is_shared else {}),
        )
        band = package.band or Band()
    else:
        together = windows.is_shared and settings.mode is Mode.REFERENCE
        levels = uniform_levels(n_levels, side, factor, stride, together=together)
    if not levels.n_blocks:
        return LevelPlan(levels, stride)
    compared = _WINDOWS_COMPARED if windows.allow_approximate else 0
    rule = BlockRule(levels, len(package.classes), package.score_column, settings.mode, band, compared)
    return LevelPlan(levels, stride, rule)


def _steps(mode: str, stride: int, package: ModelPackage) -> tuple[int, ...]:
    """Strides of an adaptive run, the finest first."""
    if mode == "adaptive-shared":
        # passes at the finest stride cost what those at a coarser one do, so there is nothing to gain between
        return stride, stride * (package.tile_size // stride)
    if package.band_strides is not None and package.band_strides[0] == stride:
        return package.band_strides
    return doubling_strides(stride, package.tile_size)


def in_small_batches(schedule: Schedule) -> Schedule:
    """Of blocks, each as much as a batch of tiles, few at a time: they are stopped, stolen and journalled between."""
    return replace(schedule, batch_size=min(schedule.batch_size, _MOST_BLOCKS_AT_ONCE))
