"""Tables for the person who tunes."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from pyramidai_mpi.truth.labelled_tree import PASS_THROUGH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyramidai_mpi.tuning.cohort import Cohort, Measurement
    from pyramidai_mpi.tuning.comparison import Attempt, Comparison
    from pyramidai_mpi.tuning.guarantee import GuaranteedThresholds
    from pyramidai_mpi.tuning.labelled_slides import LabelledSlides
    from pyramidai_mpi.tuning.strategies import BetaTable, Choice


def labelled_slides_lines(slides: LabelledSlides, kind: str) -> Iterator[str]:
    """How many slides there are and which count for what."""
    cohort = slides.cohort
    without = len(cohort.trees) - cohort.n_with_positives
    yield (
        f"{kind}: {len(cohort.trees)} slides of model {slides.model_name}, "
        f"{sum(tree.n_reference_tiles for tree in cohort.trees)} tiles in their reference runs"
    )
    if without:
        yield f"  {without} of them have no true positive tile: they count for the speedup, not for the retention"
    yield from (f"  note: {note}" for note in slides.notes)


def beta_lines(table: BetaTable) -> Iterator[str]:
    """Retention and speedup against beta: each level alone, and all together; one row where betas choose the same."""
    yield "F_beta thresholds: one level alone (all others pass through), and all levels together"
    heads = "".join(f" | {f'level {rows[0].level}':>9}   ret. speedup" for rows in table.isolated)
    yield f"  {'beta':>7}{heads} | all: ret. speedup"
    for _, alike in groupby(range(len(table.joint)), key=lambda k: [rows[k].threshold for rows in table.isolated]):
        numbers = list(alike)
        joint, last = table.joint[numbers[0]], table.joint[numbers[-1]]
        cells = "".join(
            f" | {row.threshold:9.5f} {row.measured.retention:6.4f} {row.measured.speedup:7.2f}"
            for row in (rows[numbers[0]] for rows in table.isolated)
        )
        betas = f"{joint.beta:g}" if joint is last else f"{joint.beta:g} to {last.beta:g}"
        yield f"  {betas:>7}{cells} | {joint.measured.retention:9.4f} {joint.measured.speedup:7.2f}"


def comparison_lines(attempts: tuple[Attempt, ...], cohort: Cohort, test: Cohort | None) -> Iterator[str]:
    """The strategies beside each other, training slides left, test slides right."""
    yield (
        f"strategies at a mean retention of {attempts[0].objective:g} "
        "(ret.: mean over slides; speedup in tiles: mean over slides, pooled)"
    )
    columns = "".join(f"{f'level {n}':>10}" for n in range(1, cohort.n_levels))
    yield f"  {'':<13}{'betas':>7}{columns} | train: ret. speedup pooled" + (
        " |  test: ret. speedup pooled" if test else ""
    )
    for one in attempts:
        if one.choice is None:
            yield f"  {one.strategy:<13} out of reach: {one.reason}"
        else:
            betas = ",".join(f"{beta:g}" for beta in one.choice.betas) or "-"
            yield _row(one.strategy, betas, one.choice.measured, one.tested)
    through = cohort.pass_through()
    yield _row("no pruning", "-", cohort.measure(through), test.measure(through) if test else None)


def _row(name: str, betas: str, measured: Measurement, tested: Measurement | None) -> str:
    columns = "".join(f"{'pass' if t == PASS_THROUGH else f'{t:.5f}':>10}" for t in measured.thresholds[1:])
    return f"  {name:<13}{betas:>7}{columns}" + "".join(_figures(m) for m in (measured, tested) if m)


def _figures(measured: Measurement) -> str:
    return f" | {measured.retention:11.4f} {measured.speedup:7.2f} {measured.pooled_speedup:6.2f}"


def choice_lines(choice: Choice, comparison: Comparison) -> Iterator[str]:
    """The thresholds chosen, and what they do."""
    yield f"chosen: {choice.strategy}" + (f" at {choice.objective:g}" if choice.objective == choice.objective else "")
    thresholds = ", ".join(f"level {n}: {t:.9g}" for n, t in enumerate(choice.thresholds) if n)
    yield f"  thresholds {thresholds} (level 0 stays at {choice.thresholds[0]:g})"
    for kind, measured in (("training", choice.measured), ("test", comparison.on_test(choice.thresholds))):
        if measured:
            yield (
                f"  {kind} slides: retention {measured.retention:.4f} (pooled {measured.pooled_retention:.4f}), "
                f"speedup {measured.speedup:.2f} (pooled {measured.pooled_speedup:.2f})"
            )


def guarantee_lines(guaranteed: GuaranteedThresholds) -> Iterator[str]:
    """What is guaranteed, about which slides, and on what it stands."""
    guarantee = guaranteed.guarantee
    kind = (
        "a new slide, with tumour or not (slides without count, with nothing to miss)"
        if guaranteed.request.count_negative
        else "a new slide with tumour (slides without do not count)"
    )
    yield f"guarantee: expected miss rate at most {guarantee.alpha:g} on {kind}"
    yield (
        f"  path drawn on {len(guaranteed.path_slides)} slides, calibrated on {guarantee.n_calibration} others: "
        f"mean miss rate {guarantee.calibration_loss:.4f} there, corrected {guarantee.bound:.4f}"
    )
    yield (
        "  it holds on average over calibration slides and new slide, both drawn alike (same scanner, stain, kind of "
        "tissue); not for each slide"
    )
