"""What a training leaves: a package with its card, its log and its curves; or a folder of those, one a fold."""

from __future__ import annotations

import statistics
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.models.description import YAML_NAME
from pyramidai_mpi.models.write import PackageText, write_package
from pyramidai_mpi.store.files.placing import check_free, placed_folder, storage_errors
from pyramidai_mpi.training.curves import Chart, charts_of, curves_page
from pyramidai_mpi.training.exact.log import table_of
from pyramidai_mpi.training.fit_settings import FitSettings
from pyramidai_mpi.training.per_level import accuracy_table
from pyramidai_mpi.training.splits import Split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.training.exact.log import Row
    from pyramidai_mpi.training.per_level import LevelResult, Material, TrainingPlan
    from pyramidai_mpi.training.splits import SlidesOfSplits

CARD, LOG, CURVES = "README.md", "log.csv", "curves.html"
_OURS = (CARD, LOG, CURVES, YAML_NAME)
_ALWAYS_SAID = ("--seed", "--batch-size", "--micro-batch", "--learning-rate", "--optimizer")
_SHOWN_COLUMNS = {
    "Loss": ("loss", "validation_loss"),
    "Accuracy on the validation tiles": ("validation_accuracy",),
    "Learning rate": ("learning_rate",),
}


def check_output(folder: Path, *, overwrite: bool) -> None:
    """See whether what is trained may have this name.

    Raises
    ------
    OutputExistsError
        When something is there; with `overwrite`, when it holds other things than a training leaves.
    """
    if not overwrite:
        if folder.exists():
            raise OutputExistsError(f"{folder}: exists already; use --overwrite to replace it, or name another with -o")
        check_free(folder)
        return
    if folder.is_dir():
        strange = next((path for path in sorted(folder.iterdir()) if not _is_ours(path)), None)
        if strange is not None:
            raise OutputExistsError(f"{folder}: holds {strange.name}, which no training has made; name another with -o")
        names = {path.name for path in folder.iterdir()}
        if names and not names & {LOG, YAML_NAME}:
            raise OutputExistsError(
                f"{folder}: holds no {LOG} and no {YAML_NAME}, so no training; name another with -o"
            )
    else:
        check_free(folder)


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return (path / CARD).is_file() and (path / LOG).is_file() and all(map(_is_ours, path.iterdir()))
    return path.name in _OURS or path.suffix == ".onnx"


@contextmanager
def placed_training(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder to fill, which gets its name at the end; what it replaces stays until then.

    Raises
    ------
    OutputExistsError
        See `check_output`.
    StorageError
        When it cannot be written.
    """
    check_output(folder, overwrite=overwrite)
    with placed_folder(folder, replaces=overwrite, makes_parents=False) as partial:
        yield partial


def write_trained(
    folder: Path,
    name: str,
    command: str,
    plan: TrainingPlan,
    settings: FitSettings,
    split: SlidesOfSplits,
    results: Sequence[LevelResult],
    intended_use: str | None = None,
) -> None:
    """Fill a folder with the trained networks as a package, its card, its log and its curves.

    Parameters
    ----------
    folder
        The folder.
    name
        Of the package.
    command
        The command that made it, for the card.
    plan, settings, split, results
        What `train_levels` was given, and what it returned.
    intended_use
        What the model may be used for, see `base.intended_use`; None to say nothing.

    Raises
    ------
    StorageError
        When it cannot be written.
    """
    model = plan.material.model
    negative, positive = model.classes
    text = PackageText(
        name,
        classes=(negative, positive),
        positive_class=positive,
        tile_size=model.tile_size,
        base_mpp=model.base_mpp,
        stain_target=model.stain_target,
        stain_per=model.stain_per,
        intended_use=intended_use,
        sees_position=plan.sees_position,
    )
    with storage_errors(folder / CARD):
        write_package(folder, text.document(len(results)), [result.graph for result in results])
        (folder / CARD).write_text(_card(text, command, plan.material, settings, split, results), encoding="utf-8")
        rows: list[Row] = [{"level": result.level, **row} for result in results for row in result.rows]
        (folder / LOG).write_text(table_of(rows), encoding="utf-8")
        facts = {"made by": command, "network": plan.architecture, "levels": str(len(results))}
        page = curves_page(f"Training of {name}", _charts(results), rows, facts)
        (folder / CURVES).write_text(page, encoding="utf-8")


def _charts(results: Sequence[LevelResult]) -> list[Chart]:
    charts = []
    for result in results:
        columns = {f"Level {result.level}: {heading}": names for heading, names in _SHOWN_COLUMNS.items()}
        charts += charts_of(result.rows, columns, marked=result.kept_epoch)
    return charts


def _card(
    package: PackageText,
    command: str,
    plan: Material,
    settings: FitSettings,
    split: SlidesOfSplits,
    results: Sequence[LevelResult],
) -> str:
    """The model card in Markdown: what the networks were trained on and how well they tell the classes apart."""
    slides = [f"- {kind}: {', '.join(slide.name for slide in slides)}" for kind, slides in split.items()]
    usual = FitSettings().facts()
    choices = ", ".join(
        f"{option} {value}"
        for option, value in settings.facts().items()
        if value != usual.get(option) or option in _ALWAYS_SAID
    )
    where = f"torch {_torch_version()}, " + ("one thread a rank" if settings.device == "cpu" else settings.device)
    text = [
        f"# Model `{package.name}`",
        "",
        f"Intended use: {claim_of(package.intended_use) or 'not stated; not for diagnosis'}.",
        "",
        "Made by",
        "",
        f"    {command}",
        "",
        f"One network a level, at {plan.model.base_mpp:g} µm per pixel and coarser by {plan.model.scale_factor} from "
        f"level to level. {plan.in_words}",
        "",
        f"{plan.kind.capitalize()}, none in two splits:",
        "",
        *slides,
        "",
        "Accuracy at probability 0.5, both classes counting alike ([curves](curves.html), [log](log.csv)):",
        "",
        *accuracy_table(results),
        "",
        "All thresholds are 0.5; `pyramidai tune` chooses better ones.",
        "",
        f"Trained with {choices}, all else as usual; {where}. SHA-256 of the weights, equal for any number of ranks:",
        "",
        *(f"- level {result.level}: {result.digest}" for result in results),
        "",
    ]
    return "\n".join(text)


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


def fold_table(results: Mapping[str, Sequence[LevelResult]]) -> list[str]:
    """Accuracy and AUC on the test tiles of each fold and level, with mean and spread, as lines of Markdown."""
    levels = range(len(next(iter(results.values()))))
    heads = [f"level {level}: {what}" for level in levels for what in ("accuracy (tiles)", "AUC")]
    lines = ["| tested on | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
    for name, of_fold in results.items():
        cells = [
            cell
            for one in of_fold
            for cell in (f"{one.accuracies[Split.TEST]:.3f} ({one.tiles[Split.TEST]})", f"{one.areas[Split.TEST]:.3f}")
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    columns = [
        [getattr(of_fold[level], what)[Split.TEST] for of_fold in results.values()]
        for level in levels
        for what in ("accuracies", "areas")
    ]
    lines.append("| mean | " + " | ".join(f"{statistics.fmean(column):.3f}" for column in columns) + " |")
    lines.append("| standard deviation | " + " | ".join(f"{statistics.stdev(column):.3f}" for column in columns) + " |")
    return lines


def write_folds(folder: Path, name: str, command: str, kind: str, results: Mapping[str, Sequence[LevelResult]]) -> None:
    """Fill a folder that holds a package a fold with the table of them all, their logs in one, and their curves.

    Parameters
    ----------
    folder
        The folder.
    name, command
        Of what was trained, and by which command.
    kind
        What the folds are of, in words.
    results
        Of each fold, by its name.

    Raises
    ------
    StorageError
        When it cannot be written.
    """
    rows: list[Row] = [
        {"fold": fold, "level": result.level, **row}
        for fold, of_fold in results.items()
        for result in of_fold
        for row in result.rows
    ]
    lines = [
        f"# Cross-validation `{name}`",
        "",
        "Made by",
        "",
        f"    {command}",
        "",
        f"{kind} On the tiles that each network was not trained on and not chosen by:",
        "",
        *fold_table(results),
        "",
        *(f"- [{fold}]({fold}/README.md)" for fold in results),
        "",
    ]
    charts = []
    for level in range(len(next(iter(results.values())))):
        longest = max(len(of_fold[level].rows) for of_fold in results.values())
        for column in ("loss", "validation_accuracy"):
            curves = {
                fold: [float(row[column]) for row in of_fold[level].rows]
                + [float("nan")] * (longest - len(of_fold[level].rows))
                for fold, of_fold in results.items()
            }
            charts.append(Chart(f"Level {level}: {column}", "epoch", range(1, longest + 1), curves))
    with storage_errors(folder / CARD):
        (folder / CARD).write_text("\n".join(lines), encoding="utf-8")
        (folder / LOG).write_text(table_of(rows), encoding="utf-8")
        page = curves_page(f"Cross-validation {name}", charts, rows, {"made by": command})
        (folder / CURVES).write_text(page, encoding="utf-8")
