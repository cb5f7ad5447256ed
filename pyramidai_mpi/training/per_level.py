"""One network a level on annotated slides, as the paper trains them, and the package they make."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.models.write import PackageText, write_package
from pyramidai_mpi.store.files.placing import placed_folder
from pyramidai_mpi.training.architectures import check_weights, new_network
from pyramidai_mpi.training.fitting import FitSettings, accuracy, fit, score
from pyramidai_mpi.training.labelled_patches import Split
from pyramidai_mpi.training.networks.export import to_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.training.labelled_patches import LabelledTiles
    from pyramidai_mpi.training.networks.tile_network import TileNetwork


@dataclass(frozen=True)
class LevelResult:
    """One trained level.

    Attributes
    ----------
    level
        Number of the level, 0 is the finest.
    graph
        The trained network, serialised as ONNX.
    tiles, accuracies
        Number of tiles in each split, half of them tumour, and the share of them on the right side of 0.5.
    best_epoch, epochs
        The epoch whose weights were kept, from 1, and how many epochs there were.
    """

    level: int
    graph: bytes
    tiles: Mapping[Split, int]
    accuracies: Mapping[Split, float]
    best_epoch: int
    epochs: int


class Material(Protocol):
    """What is learnt: tiles of annotated slides (`labelled_patches.TilePlan`), or of files of patches."""

    @property
    def model(self) -> ModelPackage:
        """Tile size, spacing, classes and levels of the package to be."""
        ...

    @property
    def stain_mark(self) -> str:
        """For names of files that depend on how stain is normalised; empty where it is not."""
        ...

    @property
    def in_words(self) -> str:
        """What is positive, for the package's card."""
        ...

    def draw(
        self, slides: Sequence[Path], split: Split, folder: Path, progress: Callable[[Path], None] | None = None
    ) -> list[LabelledTiles]:
        """Tiles of a split for every level, level 0 first; read once, then kept in `folder`."""
        ...


@dataclass(frozen=True)
class Progress:
    """Where a training stands: what is being done, and how much of it."""

    what: str
    done: int
    total: int


def train_levels(
    split: Mapping[Split, list[Path]],
    plan: Material,
    architecture: str,
    settings: FitSettings,
    start: Path | None,
    work: Path,
    progress: Callable[[Progress], None],
    *,
    from_finer: bool = False,
) -> list[LevelResult]:
    """Train a network for every level.

    Parameters
    ----------
    split
        Slides of each split.
    plan, architecture, settings
        Which tiles are drawn, which network learns them, and how.
    start
        Weights to start from, see `check_weights`; None for random ones.
    work
        Folder that keeps tiles and states; with the same options, training goes on from them.
    progress
        Called after every slide read and every step.
    from_finer
        Whether each level above 0 starts from what the level below it has learnt.

    Raises
    ------
    InputError
        When slides, truth, weights or kept states cannot be used.
    """
    check_weights(architecture, start)
    tiles: dict[Split, list[LabelledTiles]] = {}
    for kind, slides in split.items():
        seen: list[Path] = []

        def say(slide: Path, kind: Split = kind, seen: list[Path] = seen, total: int = len(slides)) -> None:
            seen.append(slide)
            progress(Progress(f"tiles, {kind}", len(seen), total))

        tiles[kind] = plan.draw(slides, kind, work, say)
    results = []
    weights = "random" if start is None else hashlib.sha256(start.read_bytes()).hexdigest()[:12]
    finer: TileNetwork | None = None
    for level in range(plan.model.n_levels):
        network = new_network(architecture, settings.seed + level, start)
        if finer is not None:
            network.load_state_dict(finer.state_dict())
        of_level = {kind: levels[level] for kind, levels in tiles.items()}
        begun_from = weights if finer is None else "level below"
        material = [of_level[Split.TRAIN].mark, of_level[Split.VALIDATION].mark, begun_from]
        done = fit(
            network,
            of_level[Split.TRAIN],
            of_level[Split.VALIDATION],
            replace(settings, material=" ".join(material)),
            work / f"{architecture}{plan.stain_mark}-level{level}.pt",
            lambda epoch, seen, total, level=level: progress(  # type: ignore[misc]
                Progress(f"level {level}, epoch {epoch + 1}/{settings.epochs}", seen, total)
            ),
        )
        on_cpu = FitSettings(batch_size=settings.batch_size)
        results.append(
            LevelResult(
                level=level,
                graph=to_onnx(network, plan.model.tile_size),
                tiles={kind: len(found) for kind, found in of_level.items()},
                accuracies={
                    kind: accuracy(score(network, found.pixels, on_cpu), found.positive)
                    for kind, found in of_level.items()
                },
                best_epoch=done.best_epoch + 1,
                epochs=len(done.losses),
            )
        )
        if from_finer:
            finer = network
    return results


def accuracy_table(results: list[LevelResult]) -> list[str]:
    """Accuracy per level and split, as lines of Markdown."""
    kinds = list(Split)
    lines = [
        "| level | " + " | ".join(f"{kind} accuracy (tiles)" for kind in kinds) + " | best epoch |",
        "| --- " * (len(kinds) + 2) + "|",
    ]
    for result in results:
        cells = [f"{result.accuracies[kind]:.3f} ({result.tiles[kind]})" for kind in kinds]
        lines.append(f"| {result.level} | " + " | ".join(cells) + f" | {result.best_epoch} of {result.epochs} |")
    return lines


def write_trained(
    folder: Path,
    command: str,
    split: Mapping[Split, list[Path]],
    plan: Material,
    results: list[LevelResult],
    intended_use: str | None = None,
) -> None:
    """Write the trained networks as a package with its card.

    Parameters
    ----------
    folder
        Folder of the package, which is named after it.
    command
        The command that made it, for the card.
    split, plan, results
        What `train_levels` was given, and what it returned.
    intended_use
        What the model may be used for, see `base.intended_use`; None to say nothing.

    Raises
    ------
    OutputExistsError, StorageError
        When something has the folder's name, or it cannot be written.
    """
    negative, positive = plan.model.classes
    text = PackageText(
        folder.name,
        classes=(negative, positive),
        positive_class=positive,
        tile_size=plan.model.tile_size,
        base_mpp=plan.model.base_mpp,
        stain_target=plan.model.stain_target,
        stain_per=plan.model.stain_per,
        intended_use=intended_use,
    )
    with placed_folder(folder) as partial:
        write_package(partial, text.document(len(results)), [result.graph for result in results])
        card = _card(text, command, split, plan, results)
        (partial / "README.md").write_text(card, encoding="utf-8")


def _card(
    package: PackageText, command: str, split: Mapping[Split, list[Path]], plan: Material, results: list[LevelResult]
) -> str:
    """The model card in Markdown: what the networks were trained on and how well they tell the classes apart."""
    slides = [f"- {kind}: {', '.join(slide.name for slide in slides)}" for kind, slides in split.items()]
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
        "Slides, none in two splits:",
        "",
        *slides,
        "",
        "Accuracy at probability 0.5, both classes equal in number:",
        "",
        *accuracy_table(results),
        "",
        "All thresholds are 0.5; `pyramidai tune` chooses better ones.",
        "",
    ]
    return "\n".join(text)
