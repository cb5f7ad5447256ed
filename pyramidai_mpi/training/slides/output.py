"""What a training on slides leaves: a package with its card, predictions, curves and log, whole or not there."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.models.aggregator_entry import AGGREGATOR_ONNX, aggregator_entry
from pyramidai_mpi.models.description import YAML_NAME
from pyramidai_mpi.models.write import PackageText, onnx_name, write_package
from pyramidai_mpi.store.files.placing import placed_folder
from pyramidai_mpi.training.curves import charts_of, curves_page
from pyramidai_mpi.training.exact.log import table_of
from pyramidai_mpi.training.slides.package import slide_graph, tile_graph
from pyramidai_mpi.training.splits import Split

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.training.slides.fit import TrainedOnSlides
    from pyramidai_mpi.training.slides.heads import TaskHead
    from pyramidai_mpi.training.slides.plan import PreparedTraining, SlidePlan

_FILES = frozenset({YAML_NAME, onnx_name(0), AGGREGATOR_ONNX, "README.md", "predictions.csv", "curves.html", "log.csv"})
"""What such a folder holds; only one that holds nothing else is ever replaced."""


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Find out before the work whether the folder could be written after it.

    Raises
    ------
    OutputExistsError
        Something has its name, and it is not to be replaced or is none of these folders.
    """
    if not (folder.exists() or folder.is_symlink()):
        return
    if not overwrite:
        raise OutputExistsError(f"{folder}: exists already; name another folder, or replace it with --overwrite")
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - _FILES:
        raise OutputExistsError(f"{folder}: holds other things than train-slides makes; name another folder")
    names = {path.name for path in folder.iterdir()}
    if names and not names & {"log.csv", YAML_NAME}:
        raise OutputExistsError(f"{folder}: holds no log.csv and no {YAML_NAME}, so no training; name another folder")


def write_output(
    folder: Path,
    plan: SlidePlan,
    prepared: PreparedTraining,
    trained: TrainedOnSlides,
    command: str,
    intended_use: str | None,
    *,
    overwrite: bool,
) -> bool:
    """Write the folder; whether it is a package, which it is not where nobody knows what made the features.

    Parameters
    ----------
    folder
        Where.
    plan, prepared, trained
        What was asked for, and what came of it.
    command, intended_use
        For the card; see `base.intended_use`.
    overwrite
        Replace such a folder that is there.

    Raises
    ------
    OutputExistsError, StorageError
        See `check_output`; or it cannot be written.
    """
    check_output(folder, overwrite=overwrite)
    head = prepared.head
    use = intended_use or _use_of(prepared.model)
    aggregator = slide_graph(prepared.aggregator, head, prepared.n_features)
    with placed_folder(folder, replaces=overwrite, makes_parents=False) as partial:
        if prepared.encoder is not None and prepared.model is not None:
            entry = aggregator_entry(plan.aggregator, plan.task, head.classes)
            document = _text(prepared.model, head, use).document(1) | {"aggregator": entry}
            tiles = tile_graph(prepared.encoder, prepared.aggregator, head, prepared.model.tile_size)
            write_package(partial, document, [tiles], aggregator)
        else:
            (partial / AGGREGATOR_ONNX).write_bytes(aggregator)
        (partial / "README.md").write_text(_card(folder.name, plan, prepared, trained, command, use), encoding="utf-8")
        (partial / "predictions.csv").write_text(predictions_table(head, trained), encoding="utf-8")
        (partial / "log.csv").write_text(table_of(list(trained.rows)), encoding="utf-8")
        figure = f"validation_{head.figure_name}"
        charts = charts_of(
            trained.rows, {"Loss": ["loss", "validation_loss"], "Validation": [figure]}, marked=trained.best_epoch
        )
        (partial / "curves.html").write_text(curves_page(folder.name, charts, trained.rows), encoding="utf-8")
    return prepared.encoder is not None and prepared.model is not None


def _use_of(model: ModelPackage | None) -> str | None:
    """What the encoder's package says that it is for; one of random weights says nothing of what has learnt since."""
    return None if model is None or model.random_weights else model.intended_use


def _text(model: ModelPackage, head: TaskHead, intended_use: str | None) -> PackageText:
    return PackageText(
        model.name,
        classes=head.tile_classes,
        positive_class=head.positive,
        tile_size=model.tile_size,
        base_mpp=model.base_mpp,
        intended_use=intended_use,
        stain_target=model.stain_target,
        stain_per=model.stain_per,
    )


def predictions_table(head: TaskHead, trained: TrainedOnSlides) -> str:
    """What is predicted of the cases that chose and that test, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    targets = ["time", "event"] if head.task == "survival" else ["share"] if head.task == "share" else ["label"]
    writer.writerow(["case", "split", *targets, *(f"predicted {name}" for name in head.classes)])
    for kind, judged in trained.judged.items():
        for case, row in zip(judged.cases, judged.predictions, strict=True):
            said = [head.classes[int(case.target[0])]] if targets == ["label"] else [repr(one) for one in case.target]
            writer.writerow([case.name, kind, *said, *(f"{number:.9g}" for number in row)])
    return text.getvalue()


def figures_in_words(head: TaskHead, trained: TrainedOnSlides) -> str:
    """The figures of the slides that chose and that test."""
    name = head.figure_name.replace("_", " ")
    parts = [f"{kind} {judged.figure:.3f} ({len(judged.cases)})" for kind, judged in trained.judged.items()]
    return f"{name}: {', '.join(parts)}; epoch {trained.best_epoch} of {len(trained.rows)}"


def _card(
    name: str,
    plan: SlidePlan,
    prepared: PreparedTraining,
    trained: TrainedOnSlides,
    command: str,
    intended_use: str | None,
) -> str:
    cases = [
        f"- {kind}: {len(prepared.split[kind])}: {', '.join(case.name for case in prepared.split[kind])}"
        for kind in Split
    ]
    encoder = "stored features" if plan.encoder is None else f"the encoder {plan.encoder.rpartition('/')[2]}"
    learnt = "as it was" if plan.frozen or plan.features else "trained with it, end to end"
    model = prepared.model
    scale = "" if model is None else f" Tiles have {model.tile_size} px at {model.base_mpp:g} µm per pixel."
    left_out = f"Without tissue, and so left out: {', '.join(prepared.left_out)}." if prepared.left_out else ""
    lines = [
        f"# Model `{name}`",
        "",
        f"Intended use: {claim_of(intended_use) or 'not stated; not for diagnosis'}.",
        "",
        "Made by",
        "",
        f"    {command}",
        "",
        f"Task `{plan.task}`; aggregator `{plan.aggregator}` on {encoder}, {learnt}; up to {plan.tiles} tiles of a "
        f"slide in an epoch.{scale}",
        "",
        "Cases, no patient in two splits:",
        "",
        *cases,
        "",
        *([left_out, ""] if left_out else []),
        f"{figures_in_words(prepared.head, trained)}. In brackets: how many cases.",
        "",
        f"SHA-256 of the weights: `{trained.digest.hex()}`, whatever the number of ranks.",
        "",
    ]
    return "\n".join(lines)
