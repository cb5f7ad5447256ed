"""``pyramidai models import``: packages out of networks from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import InputError, UsageError, printable
from pyramidai_mpi.base.extras import require_extra
from pyramidai_mpi.base.intended_use import IntendedUse, claim_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyramidai_mpi.models.write import PackageText
    from pyramidai_mpi.training.convert.checked_package import Agreement, FeatureAgreement

_PATH = click.Path(path_type=Path, readable=False)
_TIMM = "timm:"
LEVELS = 3


@click.command("import", short_help="Take over a network from elsewhere.")
@click.argument("source", metavar="SOURCE")
@click.option("-o", "--output", type=_PATH, required=True, metavar="DIR", help="Folder of the package.")
@click.option("--arch", type=click.Choice(["inception_v3"]), help="Whose weights SOURCE holds, if it is a state dict.")
@click.option(
    "--weights",
    type=_PATH,
    multiple=True,
    metavar="FILE",
    help="State dict for timm:NAME, once for all levels or once a level, level 0 first.",
)
@click.option("--random", is_flag=True, help="Random weights for timm:NAME, for benchmarks only; the package says so.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random weights.")
@click.option("--classes", metavar="A,B", help="Names of the classes of timm:NAME, in the order of its output.")
@click.option("--positive-class", metavar="NAME", help="By default the second of two.")
@click.option(
    "--tile-size", type=click.IntRange(8, 8192), metavar="PX", help="Of timm:NAME.  [default: what timm says]"
)
@click.option("--base-mpp", type=click.FloatRange(0, min_open=True), help="µm per pixel of level 0, for timm:NAME.")
@click.option(
    "--levels", type=click.IntRange(1, 15), help=f"Of timm:NAME or --arch.  [default: 1; {LEVELS} with --arch]"
)
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of every level.")
@click.option("--encoder", is_flag=True, help="Take timm:NAME without its last layer: features, and no classes.")
@click.option(
    "--timm-setting",
    multiple=True,
    metavar="NAME=VALUE",
    help="With --encoder, a further argument of timm's create_model, such as init_values=1e-5. Repeatable.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 64),
    metavar="N",
    help="With --encoder, tiles that the network is given at a time.  [default: the fastest, by measuring]",
)
def import_model(
    source: str,
    output: Path,
    arch: str | None,
    weights: tuple[Path, ...],
    random: bool,
    seed: int,
    classes: str | None,
    positive_class: str | None,
    tile_size: int | None,
    base_mpp: float | None,
    levels: int | None,
    threshold: float,
    encoder: bool,
    timm_setting: tuple[str, ...],
    batch: int | None,
) -> int:
    """Make a model package of a network from elsewhere, and compare the two on made-up tiles.

    \b
    SOURCE is one of
      a folder of the WSInfer zoo   config.json beside torchscript_model.pt
      timm:NAME                     with --classes, or --encoder, and --base-mpp; weights from --weights, else fetched
      FILE.pt --arch inception_v3   a state dict, as `models build` takes it

    TorchScript is a program that is run here: import files of people whom you trust.
    """  # noqa: D301  # click's mark for lines that stay as they are
    if source.startswith(_TIMM):
        _refuse("is for a file of weights", {"--arch": arch})
        if weights and random:
            raise UsageError("--weights and --random exclude each other; give one")
        if encoder:
            _refuse("is not for an encoder, which has no classes", {"--classes": classes, "--levels": levels})
            _refuse("is not for an encoder, which has no classes", {"--positive-class": positive_class})
            return _import_encoder(
                source, output, weights, seed if random else None, tile_size, base_mpp, timm_setting, batch
            )
        _refuse("goes with --encoder", {"--timm-setting": timm_setting, "--batch": batch})
        if classes is None or base_mpp is None:
            raise UsageError(f"{source}: give --classes A,B and --base-mpp, which timm cannot know")
        require_extra("timm", "importing a network of timm")
        from pyramidai_mpi.training.convert.timm_package import TimmRequest, import_timm

        request = TimmRequest(
            architecture=source.removeprefix(_TIMM),
            classes=tuple(classes.split(",")),
            base_mpp=base_mpp,
            positive_class=positive_class,
            weights=weights,
            random=random,
            seed=seed,
            tile_size=tile_size,
            levels=levels or 1,
            threshold=threshold,
        )
        return _say(output, request.levels, *import_timm(output, request))
    _refuse(
        "is for timm:NAME",
        {
            "--encoder": encoder,
            "--timm-setting": timm_setting,
            "--batch": batch,
            "--weights": weights,
            "--random": random,
            "--classes": classes,
            "--tile-size": tile_size,
            "--base-mpp": base_mpp,
        },
    )
    path = Path(source)
    if path.is_dir():
        _refuse("is not for a folder of the WSInfer zoo, which has one level", {"--arch": arch, "--levels": levels})
        require_extra("train", "importing TorchScript")
        from pyramidai_mpi.training.convert.zoo import import_zoo_folder

        return _say(output, 1, *import_zoo_folder(path, output, positive_class=positive_class, threshold=threshold))
    if not path.is_file():
        raise InputError(f"{source}: no such file or folder; for a network of timm write timm:NAME")
    if arch is None:
        raise UsageError(
            f"{source}: a file of weights does not say of which network; give --arch inception_v3, or "
            f"timm:NAME --weights {source}; TorchScript is imported by its folder, with config.json"
        )
    _refuse("is not for inception_v3, whose positive class is tumor", {"--positive-class": positive_class})
    return build_inception(output, (path,), levels or LEVELS, seed, threshold)


def _import_encoder(
    source: str,
    output: Path,
    weights: tuple[Path, ...],
    seed: int | None,
    tile_size: int | None,
    base_mpp: float | None,
    words: tuple[str, ...],
    batch: int | None,
) -> int:
    if base_mpp is None:
        raise UsageError(f"{source}: give --base-mpp, which timm cannot know")
    if len(weights) > 1:
        raise UsageError(f"--weights: {len(weights)} files for an encoder, which is one network; give one")
    settings = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier() or name in {"pretrained", "num_classes"}:
            raise UsageError(f"--timm-setting {word}: expected NAME=VALUE such as init_values=1e-5")
        settings[name] = _value(value)
    require_extra("timm", "importing a network of timm")
    from pyramidai_mpi.training.convert.timm_package import EncoderRequest, import_encoder

    request = EncoderRequest(
        source.removeprefix(_TIMM), base_mpp, settings, weights[0] if weights else None, seed, tile_size, batch
    )
    return _say(output, 1, *import_encoder(output, request))


def _value(text: str) -> object:
    """A number, True, False or None as Python writes it; any other text as it stands."""
    import ast

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def build_inception(output: Path, weights: Sequence[Path], levels: int, seed: int, threshold: float) -> int:
    """Write a package of the paper's network: what ``models build`` does."""
    if len(weights) not in {0, 1, levels}:
        raise UsageError(f"--weights: {len(weights)} files for {levels} levels; give one, or one a level")
    require_extra("train", "building a network")
    from pyramidai_mpi.training.convert.paper_package import write_inception

    return _say(output, levels, *write_inception(output, weights, levels, seed=seed, threshold=threshold))


def _refuse(why: str, options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if value not in (None, False, ()):
            raise UsageError(f"{name} {why}")


def _say(output: Path, levels: int, text: PackageText, agreement: Agreement | FeatureAgreement) -> int:
    what = f"positive: {printable(text.positive_class)}" if text.classes else "encoder"
    size = sum(path.stat().st_size for path in output.glob("*.onnx")) / 1e6
    click.echo(
        f"{output}: {printable(text.name)}, {levels} level{'s' * (levels > 1)} of {text.tile_size} px at "
        f"{text.base_mpp:g} µm/px, {what}, {size:.3g} MB"
    )
    click.echo(f"{output}: {agreement}")
    claim = claim_of(IntendedUse.BENCHMARK if text.random_weights else text.intended_use)
    click.echo(f"{output}: {claim or 'what it may be used for is not said; intended_use in its model.yaml can'}")
    return 0
