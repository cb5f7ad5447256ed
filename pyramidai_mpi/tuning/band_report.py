"""Tables for the person who tunes a band."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.tuning.band import choose_band, keeps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyramidai_mpi.tuning.band import GuaranteedBand
    from pyramidai_mpi.tuning.band_play import Trial
    from pyramidai_mpi.tuning.full_maps import FullMaps

OBJECTIVES = (0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
"""Of the table, beside the one asked for."""


def full_maps_lines(maps: FullMaps, kind: str) -> Iterator[str]:
    """How many slides there are and what is known of them."""
    windows = sum(int((slide.map.stride > 0).sum()) for slide in maps.slides)
    lesions = f", {counted(maps.n_lesions, 'lesion')}" if maps.has_truth else ", no truth: the maps alone count"
    yield (
        f"{kind}: {counted(len(maps.slides), 'slide')} of model {maps.model_name}, {windows} windows at stride "
        f"{maps.stride}{lesions}"
    )
    empty = sum(not slide.positive.any() for slide in maps.slides)
    if empty:
        yield f"  nothing is positive on {empty} of them: they count for the windows, not for the IoU"
    yield from (f"  note: {note}" for note in maps.notes)


def trade_off_lines(trials: Sequence[Trial], objective: float) -> Iterator[str]:
    """For each objective the band of the fewest windows that keeps it and every lesion."""
    yield (
        "bands of the fewest windows at a mean IoU with the full maps, no lesion lost "
        "(windows: of the full map's, mean over slides and largest)"
    )
    heads = f"{'low':>6} {'high':>6} {'step':>6} {'windows':>9} {'largest':>9} {'IoU':>7} {'lowest':>7}"
    yield f"  {'at':>7} {heads}  strides"
    for wanted in sorted({objective, *OBJECTIVES}):
        yield f"  {wanted:7g} {_figures(choose_band(trials, wanted))}"


def choice_lines(chosen: Trial, tested: Trial | None) -> Iterator[str]:
    """The band chosen, and what it does."""
    band = chosen.band
    yield f"chosen: low {band.low:g}, high {band.high:g}, step {band.step:g}, strides {_listed(chosen.strides)}"
    for kind, trial in (("training", chosen), ("test", tested)):
        if trial is not None:
            n_found = sum(one.n_found for one in trial.slides)
            kept = f", {n_found - trial.n_lesions_lost} of {n_found} lesions kept" if n_found else ""
            yield (
                f"  {kind} slides: 1/{1 / trial.share:.1f} of the windows (at worst 1/{1 / trial.worst_share:.1f}), "
                f"IoU {trial.iou:.4f} (lowest {trial.worst_iou:.4f}){kept}"
            )


def guarantee_lines(guaranteed: GuaranteedBand) -> Iterator[str]:
    """What is guaranteed, and on what it stands."""
    yield (
        f"guarantee: expected share of positive cells lost at most {guaranteed.alpha:g} on a new slide, against all "
        "windows of the finest stride"
    )
    yield (
        f"  path drawn on {counted(len(guaranteed.path_slides), 'slide')}, calibrated on "
        f"{len(guaranteed.calibration_slides)} others: mean loss {guaranteed.calibration_loss:.4f} there, corrected "
        f"{guaranteed.bound:.4f}"
    )
    yield (
        "  it holds on average over calibration slides and new slide, both drawn alike (same scanner, stain, kind of "
        "tissue); not for each slide"
    )


def untuned_line(trial: Trial, objective: float) -> str:
    """What the band that a run takes without tuning does on the same slides."""
    said = "" if keeps(trial, objective) else "  (keeps less than asked for)"
    return f"  {'untuned':>7} {_figures(trial)}{said}"


def _figures(trial: Trial) -> str:
    band = trial.band
    return (
        f"{band.low:6.3g} {band.high:6.3g} {band.step:6.3g} {f'1/{1 / trial.share:.1f}':>9} "
        f"{f'1/{1 / trial.worst_share:.1f}':>9} {trial.iou:7.4f} {trial.worst_iou:7.4f}  {_listed(trial.strides)}"
    )


def _listed(strides: Sequence[int]) -> str:
    return ",".join(map(str, strides))
