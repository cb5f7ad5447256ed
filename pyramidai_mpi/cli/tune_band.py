"""``pyramidai tune --band``: which cells are refined where windows lie at strides in steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pyramidai_mpi.truth.truth import TruthOptions
    from pyramidai_mpi.tuning.band import GuaranteedBand
    from pyramidai_mpi.tuning.band_play import Trial
    from pyramidai_mpi.tuning.full_maps import FullMaps
    from pyramidai_mpi.tuning.guarantee import GuaranteeRequest
    from pyramidai_mpi.tuning.tuned_package import BandRecord

DEFAULT_IOU = 0.99


@dataclass(frozen=True)
class BandTuning:
    """What is asked of ``tune --band``.

    Attributes
    ----------
    results, tests
        Result files to choose on and to measure on.
    truth, options
        Annotations, None for none, and how they are read.
    families
        Strides as the caller wrote them; none for the usual ones.
    objective
        Mean IoU with the full maps to keep.
    request
        What is to be guaranteed instead; None for nothing.
    model, output, overwrite
        Package that made the results, None for the shipped one; where to write; whether to replace what is there.
    """

    results: Sequence[Path]
    tests: Sequence[Path]
    truth: Path | None
    options: TruthOptions
    families: Sequence[str]
    objective: float
    request: GuaranteeRequest | None
    model: Path | None
    output: Path | None
    overwrite: bool


def tune_band(asked: BandTuning) -> int:
    """Read, choose, print, and write the package."""
    from pyramidai_mpi.models.package import load_package
    from pyramidai_mpi.models.shipped import find_model
    from pyramidai_mpi.tuning import band_report as report
    from pyramidai_mpi.tuning.band import choose_band, guarantee_band, search_bands, untuned
    from pyramidai_mpi.tuning.band_play import levels_of_strides, try_band
    from pyramidai_mpi.tuning.full_maps import read_full_maps
    from pyramidai_mpi.tuning.tuned_package import check_output, check_source, output_folder, write_band

    families = [_strides_of(text) for text in asked.families]
    package = folder = None
    if asked.output is not None:
        package, folder = load_package(find_model(asked.model)), output_folder(asked.output)
        check_output(package, folder, overwrite=asked.overwrite)
    training = read_full_maps(asked.results, asked.truth, options=asked.options)
    if package is not None:
        check_source(package, training.level_sha256)
    test = None
    if asked.tests:
        test = read_full_maps(asked.tests, asked.truth, options=asked.options, like=training)
    as_it_is = untuned(training.slides)
    families = families or [as_it_is.strides]
    for strides in families:
        levels_of_strides(strides, training.window)
    _say(report.full_maps_lines(training, "training"))
    if test is not None:
        _say(report.full_maps_lines(test, "test"))
    trials = search_bands(training.slides, families)
    _say(["", *report.trade_off_lines(trials, asked.objective)])
    _say([report.untuned_line(as_it_is, asked.objective)])
    guaranteed = None
    if asked.request is None:
        chosen = choose_band(trials, asked.objective)
    else:
        guaranteed = guarantee_band(training.slides, families, asked.request)
        _say(["", *report.guarantee_lines(guaranteed)])
        chosen = try_band(training.slides, guaranteed.strides, guaranteed.band)
    tested = None if test is None else try_band(test.slides, chosen.strides, chosen.band)
    _say(["", *report.choice_lines(chosen, tested)])
    if package is not None and folder is not None:
        record = _record(asked, training, chosen, guaranteed)
        written = write_band(package, folder, chosen.strides, chosen.band, record, overwrite=asked.overwrite)
        click.echo(f"wrote {written}")
    return 0


def _strides_of(text: str) -> tuple[int, ...]:
    from pyramidai_mpi.base.errors import UsageError

    words = text.split(",")
    if not all(word.strip().isascii() and word.strip().isdigit() for word in words):
        raise UsageError(f"--strides {text}: expected whole numbers of pixels joined by commas, such as 16,32,64,128")
    return tuple(int(word) for word in words)


def _record(asked: BandTuning, training: FullMaps, chosen: Trial, guaranteed: GuaranteedBand | None) -> BandRecord:
    from datetime import UTC, datetime

    import pyramidai_mpi
    from pyramidai_mpi.tuning.tuned_package import BandRecord

    return BandRecord(
        objective=asked.objective if guaranteed is None else float("nan"),
        iou=chosen.iou,
        windows_share=chosen.share,
        n_lesions=training.n_lesions,
        slides=training.ids,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software_version=pyramidai_mpi.__version__,
        alpha=float("nan") if guaranteed is None else guaranteed.alpha,
        calibration=[training.ids[k] for k in guaranteed.calibration_slides] if guaranteed else (),
    )


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
