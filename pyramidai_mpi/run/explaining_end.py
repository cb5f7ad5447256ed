"""The explanations of a slide, and what is said of them once their file is in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.process.host import cpu_description
from pyramidai_mpi.run.assemble import model_record, slide_record
from pyramidai_mpi.run.pool.messages import SlideEnd
from pyramidai_mpi.store.explanations.contents import Explanation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyramidai_mpi.analyses.explain import Explain
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.run.explaining_gathered import Gathered
    from pyramidai_mpi.run.explaining_tiles import ChosenTiles
    from pyramidai_mpi.store.explanations.contents import ExplainedTiles
    from pyramidai_mpi.store.results.result import Execution

_MOST_LISTED = 20


def found_against(chosen: ChosenTiles, tiles: ExplainedTiles) -> dict[str, str | int | float]:
    """How the probabilities of explained tiles compare with those of the result, bit by bit: for `/execution`."""
    if chosen.result is None:
        return {}
    known, found = chosen.known, tiles.probability
    there = np.isfinite(known).all(axis=1) & np.isfinite(found).all(axis=1)
    differs = there & (known.view("<u4") != np.ascontiguousarray(found, "<f4").view("<u4")).any(axis=1)
    most = float(np.abs(known[differs] - found[differs]).max()) if differs.any() else 0.0
    return {
        "result": chosen.result.name,
        "result_computed_by": chosen.result.computed,
        "result_n_compared": int(there.sum()),
        "result_n_differing": int(differs.sum()),
        "result_max_difference": most,
    }


def explanation_of(
    package: ModelPackage,
    explain: Explain,
    settings: Mapping[str, Any],
    gathered: Gathered,
    tiles: ExplainedTiles,
    execution: Execution,
) -> Explanation:
    """The explanations of a slide.

    Parameters
    ----------
    settings
        See `settings_of`.
    tiles
        Of what was gathered.
    """
    slide = gathered.slide
    return Explanation(
        slide=slide_record(slide),
        model=model_record(package),
        method=str(explain.method.name),
        class_name=package.classes[explain.column],
        level=explain.level,
        layer=explain.layer,
        downsample=slide.pyramid.grid.downsample(explain.level),
        settings=settings,
        tiles=tiles,
        failed=gathered.failed(),
        execution=execution,
    )


def end_of(settings: RunSettings, explanation: Explanation, chosen: ChosenTiles) -> SlideEnd:
    """How a slide has ended whose explanations are in their place."""
    path, name, failed, tiles = settings.output.path, settings.slide.path.name, explanation.failed, explanation.tiles
    unread = said_of_none(settings, explanation)
    if unread:
        return SlideEnd(ExitCode.BAD_INPUT, unread)
    layer = f" at {explanation.layer}" if explanation.layer else ""
    said = [f"{name}: {counted(len(tiles), 'tile')}, {explanation.class_name} by {explanation.method}{layer}"]
    if "most_masks" in explanation.execution.attributes and len(tiles):
        least, most = (explanation.execution.attributes[f"{word}_masks"] for word in ("least", "most"))
        said.append(f"{most} masks each" if least == most else f"{least} to {most} masks each")
    if np.isfinite(tiles.repeatability).any():
        said.append(f"repeatability {np.nanmin(tiles.repeatability):.2f} to {np.nanmax(tiles.repeatability):.2f}")
    lines = [f"{', '.join(said)}: {path}", *_faithfulness(tiles), *_against_result(explanation)]
    for record in failed[:_MOST_LISTED]:
        why = record["reason"].decode(errors="replace")
        lines.append(f"unreadable: level {record['level']} col {record['col']} row {record['row']}: {why}")
    if len(failed) > _MOST_LISTED:
        lines.append(f"... and {counted(len(failed) - _MOST_LISTED, 'more unreadable tile')}; all are in /failed")
    return SlideEnd(ExitCode.TILES_FAILED if len(failed) else ExitCode.OK, "\n  ".join(lines))


def said_of_none(settings: RunSettings, explanation: Explanation) -> str:
    """What is said where not one of the tiles has a map, also to a later start; empty else."""
    failed = explanation.failed
    if not len(failed) or len(failed) < len(explanation.tiles):
        return ""
    why = failed["reason"][0].decode(errors="replace")
    return (
        f"{settings.slide.path}: none of its tiles can be read ({why}); remove {settings.output.path}, and try again "
        "once it can"
    )


def _faithfulness(tiles: ExplainedTiles) -> list[str]:
    """Mean areas under the curves."""
    areas = {name: area[np.isfinite(area)] for name, area in tiles.areas().items()}
    if not areas or not len(areas["deletion"]):
        return []
    means = {name: float(area.mean()) for name, area in areas.items()}
    return [
        f"deletion {means['deletion']:.3f} (random map {means['random_deletion']:.3f}; less is better), insertion "
        f"{means['insertion']:.3f} (random map {means['random_insertion']:.3f}; more is better)"
    ]


def _against_result(explanation: Explanation) -> list[str]:
    said = explanation.execution.attributes
    if "result" not in said or not said["result_n_compared"]:
        return []
    compared = counted(int(said["result_n_compared"]), "tile")
    if not said["result_n_differing"]:
        return [f"probabilities of {compared} as in {said['result']}, to the bit"]
    return [
        f"probabilities of {said['result_n_differing']} of {compared} differ from {said['result']} by up to "
        f"{said['result_max_difference']:.2g}: computed by {said['result_computed_by']} there, by onnxruntime "
        f"(float32, {cpu_description()}) here"
    ]
