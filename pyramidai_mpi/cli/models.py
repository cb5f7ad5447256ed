"""``pyramidai models``: make model packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pyramidai_mpi.training.inception import Inception

_PATH = click.Path(path_type=Path)
_LEVELS = 3


@click.group("models", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Build model packages."""


@command.command("build")
@click.argument("architecture", type=click.Choice(["inception_v3"]))
@click.option("-o", "--output", type=_PATH, required=True, metavar="DIR", help="Folder of the package.")
@click.option(
    "--weights",
    type=_PATH,
    multiple=True,
    metavar="FILE",
    help="State dict saved by torch, once for all levels or once a level, level 0 first; torchvision's names.",
)
@click.option("--random", is_flag=True, help="Random weights, for benchmarks only; the package says so.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random weights.")
@click.option("--levels", type=click.IntRange(1, 15), default=_LEVELS, show_default=True)
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of every level.")
def build(
    architecture: str,
    output: Path,
    weights: tuple[Path, ...],
    random: bool,
    seed: int,
    levels: int,
    threshold: float,
) -> int:
    """Write a package with one network a level: the paper's InceptionV3 with its dense head of 224 units.

    Weights without the head (torchvision's, timm's) give a network that has still to be trained: such a package is
    labelled as random.
    """
    from pyramidai_mpi.errors import InputError, OutputExistsError, UsageError

    if bool(weights) == random:
        raise UsageError("give either --weights FILE or --random")
    if len(weights) not in {0, 1, levels}:
        raise UsageError(f"--weights: {len(weights)} files for {levels} levels; give one, or one a level")
    if output.exists():
        raise OutputExistsError(f"{output}: exists already; name another folder")
    try:
        from pyramidai_mpi.training import export, inception
    except ModuleNotFoundError as error:
        raise InputError(f"building networks needs {error.name}; pip install 'pyramidai-mpi[train]'") from error
    from pyramidai_mpi.training.package import write_package

    networks: list[Inception] = []
    trained = not random
    for level in range(levels):
        if random:
            networks.append(inception.random_network(seed + level))
        else:
            network, has_head = inception.load_weights(weights[level % len(weights)], seed + level)
            trained = trained and has_head
            networks.append(network)
    graphs = [export.to_onnx(network) for network in networks]
    name = architecture if trained else f"{architecture}-random"
    write_package(output, name, graphs, [threshold] * levels, random_weights=not trained)
    size = sum(len(graph) for graph in graphs) / 1e6
    click.echo(f"{output}: {name}, {levels} levels, {size:.0f} MB")
    if not trained:
        click.echo(f"{output}: random weights: for benchmarks only, its answers mean nothing")
    return 0
