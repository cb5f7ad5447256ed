"""Write a model package: ``model.yaml``, one ONNX file per level, and the card that says what it is worth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from pyramidai_mpi.models.stain.entry import stain_entry
from pyramidai_mpi.training.tiles import LEVELS, SCALE_FACTOR, TILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.models.stain.map import StainTarget
    from pyramidai_mpi.training.thresholds import Retention
    from pyramidai_mpi.training.weights import NetworkWeights

BASE_MPP = 0.25


@dataclass(frozen=True)
class LevelScore:
    """Test accuracy of one level on slides never trained on, classes equal in number.

    Attributes
    ----------
    network, colour
        Of the network at its threshold 0.5, and of a logistic regression on means and variances of the colours.
    tiles
        Tiles tested.
    """

    network: float
    colour: float
    tiles: int


@dataclass(frozen=True)
class TrainingRecord:
    """What the card tells.

    Attributes
    ----------
    command
        The command that made the package.
    seeds
        First and last seed of the slides to train, to choose thresholds, to test.
    size
        Side of a slide in pixels.
    epochs, tiles
        Passes and tiles trained on, per level.
    minutes
        From the first slide to the last figure.
    scores
        Per level.
    retention
        Of the pyramidal run on the test slides.
    """

    command: str
    seeds: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    size: int
    epochs: tuple[int, ...]
    tiles: tuple[int, ...]
    minutes: float
    scores: tuple[LevelScore, ...]
    retention: Retention


def write_package(
    folder: Path,
    name: str,
    graphs: Sequence[bytes],
    thresholds: Sequence[float],
    *,
    base_mpp: float = BASE_MPP,
    classes: Sequence[str] = ("normal", "tumor"),
    positive_class: str = "tumor",
    tile_size: int = TILE,
    description: str | None = None,
    random_weights: bool = False,
    stain_target: StainTarget | None = None,
) -> None:
    """Write ``model.yaml`` and ``level<n>.onnx`` into a folder, which is made if need be.

    Parameters
    ----------
    folder, name
        Of the package.
    graphs, thresholds
        Serialised networks and their thresholds, level 0 first.
    base_mpp
        µm per pixel of level 0.
    classes, positive_class
        Names, in the order of the networks' output.
    tile_size
        Side of a tile in pixels.
    description
        Free text, such as where the networks come from.
    random_weights
        Whether the networks were never trained, which ``model.yaml`` then says.
    stain_target
        What the colours of the tiles were brought to; None for nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    levels = []
    for level, (data, threshold) in enumerate(zip(graphs, thresholds, strict=True)):
        (folder / f"level{level}.onnx").write_bytes(data)
        levels.append(
            {
                "level": level,
                "onnx": f"level{level}.onnx",
                "threshold": threshold,
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
    document: dict[str, object] = {
        "format": "pyramidai-model/1",
        "name": name,
        **({"description": description} if description else {}),
        **({"weights": "random"} if random_weights else {}),
        "classes": list(classes),
        "positive_class": positive_class,
        "tile_size": tile_size,
        "scale_factor": SCALE_FACTOR,
        "base_mpp": base_mpp,
        "stain": stain_entry(stain_target),
        "input": {"layout": "NHWC", "dtype": "uint8"},
        "inputs": [],
        "decision": {"type": "threshold"},
        "levels": levels,
    }
    # last: a folder without description is no package
    (folder / "model.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def write_card(
    path: Path,
    record: TrainingRecord,
    networks: list[NetworkWeights],
    thresholds: list[float],
) -> None:
    """Write the model card as Markdown."""
    rows = []
    for level, score in zip(LEVELS, record.scores, strict=True):
        weights = networks[level]
        size = sum(layer.kernel.size + layer.bias.size for layer in weights.convolutions)
        size += weights.head.size + weights.head_bias.size
        rows.append(
            f"| {level} | {BASE_MPP * SCALE_FACTOR**level:g} | {score.network:.3f} | {score.colour:.3f} "
            f"| {score.tiles} | {thresholds[level]:g} | {size} | {weights.multiplications(TILE) / 1e6:.0f} |"
        )
    (train, tune, test), kept = record.seeds, record.retention
    text = _CARD.format(
        command=record.command,
        train=f"{train[0]} to {train[1]}",
        tune=f"{tune[0]} to {tune[1]}",
        test=f"{test[0]} to {test[1]}",
        size=record.size,
        epochs=", ".join(str(count) for count in record.epochs),
        tiles=", ".join(str(count) for count in record.tiles),
        minutes=round(record.minutes),
        rows="\n".join(rows),
        rate=kept.rate,
        kept=kept.kept,
        positives=kept.true_positives,
        speedup=kept.speedup,
        analysed=kept.analysed,
        reference=kept.reference,
    )
    path.write_text(text, encoding="utf-8")


_CARD = """# Model `small`

Three small convolutional networks, one per level of the pyramid, that tell tumour from normal tissue **on slides that
`pyramidai_mpi synth` generates**. They exist so that every command, test and benchmark runs from a clean checkout.

**For demonstration. Not for diagnosis, and not for research on patients:** no network here has seen a real slide. On
real H&E it will find something and mean nothing.

## Input and output

A tile of 224 x 224 pixels, uint8 RGB, NHWC, at 0.25, 0.5 or 1 µm per pixel (level 0, 1, 2). Outputs: `probabilities`
(normal, tumor) and `features`, the 128 values before the last layer. Scaling lives inside the graph; a tile's result
does not depend on the other tiles of its batch.

A level-0 tile counts as tumour when half of its tissue or more lies inside a tumour outline; a tile of level 1 or 2
when any of its level-0 descendants does, for it has to be zoomed into. Tiles with less than 5 % tissue are
background.

## Measured on held-out slides

| level | µm/px | accuracy | colour alone | tiles | threshold | weights | million multiplications a tile |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

Accuracy: at probability 0.5, classes equal in number, slides whose seeds were never trained on. Colour alone:
logistic regression on the means and variances of red, green and blue, tested on the same tiles; what the network has
beyond it is texture and architecture. `bench/paper/synth_separability.py` measures both anew.

The pyramid on the test slides, at the thresholds above: {rate:.1%} of the reference run's true positive level-0 tiles
kept ({kept} of {positives}), {speedup:.2f} times fewer tiles analysed ({analysed} against {reference}, all levels
counted).

Threshold of level 0: best balanced accuracy on the tuning slides. Of levels 1 and 2: the highest, up to 0.5, at
which tiles holding 98.5 % of the true positive level-0 tiles zoom in.

## How it was made

    {command}

Slides of {size} x {size} pixels at 0.25 µm/px, seeds {train} to train, {tune} to choose thresholds, {test} to test; a
quarter of them without tumour, the others with 12, 25 and 40 % of their tissue. {tiles} tiles at levels 0, 1 and 2,
read from the JPEG pyramid; flips, transposition and changes of stain; AdamW, {epochs} passes. It took {minutes}
minutes on two cores. Training in bfloat16 on several threads is not bit-reproducible: another run gives another
network, about as good.
"""
