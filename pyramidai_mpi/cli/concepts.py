"""``pyramidai concepts``: what people measure in nuclei, and whether a network has learnt it."""

from __future__ import annotations

from pathlib import Path

import click

from pyramidai_mpi.base.settings import DEFAULT_POLICY, POLICIES
from pyramidai_mpi.cli.launcher import become_ranks, insist_on_one_thread
from pyramidai_mpi.cli.model_option import MODEL

_PATH = click.Path(path_type=Path, readable=False)
_CONCEPTS = "area,contrast,asm,correlation,eccentricity,count,colourfulness"


@click.command("concepts")
@click.argument("model", type=MODEL, metavar="MODEL")
@click.option(
    "--patches",
    "places",
    multiple=True,
    required=True,
    type=_PATH,
    metavar="FILE|DIR",
    help="Patches of the size and µm/px of a level of MODEL, of several patients. Repeatable.",
)
@click.option(
    "--nuclei",
    default="auto",
    show_default=True,
    metavar="DIR|auto",
    help="Known nuclei, a file a slide: NAME.nuclei.geojson, or a mask NAME.nuclei.tif; auto finds them.",
)
@click.option(
    "--concepts",
    default=_CONCEPTS,
    show_default=True,
    metavar="NAMES",
    help="What to measure, also perimeter; and tables FILE.csv with values of your own: patch, file, a column each.",
)
@click.option("--layers", default="all", show_default=True, metavar="all|NAMES", help="Layers to look into.")
@click.option(
    "--class", "class_name", metavar="NAME", help="Class whose logit it is about.  [default: the positive one]"
)
@click.option(
    "--level",
    type=click.IntRange(0, 14),
    metavar="N",
    help="Level of MODEL.  [default: the one with the patches' µm/px]",
)
@click.option(
    "--folds", type=click.IntRange(2, 100), default=5, show_default=True, help="Of patients, for held-out R2."
)
@click.option(
    "--most",
    type=click.IntRange(20, 10**6),
    default=2000,
    show_default=True,
    metavar="N",
    help="Patches at most, by chance.",
)
@click.option(
    "--draws", type=click.IntRange(20, 10000), default=300, show_default=True, help="Of patients, for the intervals."
)
@click.option(
    "--random",
    "n_shuffles",
    type=click.IntRange(20, 1000),
    default=100,
    show_default=True,
    metavar="N",
    help="Random directions as control: shuffled concepts, through all the same steps.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of all that is drawn.")
@click.option("-o", "--output", type=_PATH, required=True, metavar="DIR", help="Folder for tables, JSON and figures.")
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw figures, which needs matplotlib.")
@click.option("--overwrite", is_flag=True, help="Replace an older folder of this command.")
@click.option(
    "--policy",
    type=click.Choice(POLICIES),
    default=DEFAULT_POLICY,
    show_default=True,
    help="How work finds idle ranks. Does not change the result.",
)
@click.option("--ranks", metavar="N|auto", help="Start this many ranks on this machine, as with run.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
def command(
    model: Path,
    places: tuple[Path, ...],
    nuclei: str,
    concepts: str,
    layers: str,
    class_name: str | None,
    level: int | None,
    folds: int,
    most: int,
    draws: int,
    n_shuffles: int,
    seed: int,
    output: Path,
    plots: bool,
    overwrite: bool,
    policy: str,
    ranks: str | None,
    quiet: bool,
) -> int:
    """Measure concepts in patches (size and texture of nuclei, or yours), and find them in the layers of MODEL.

    Of each concept and layer: how well the layer foretells it for patients that were held out (R2); where it does, in
    how many patches more of it would raise the class's logit (TCAV) and how strongly that counts (Br), each with an
    interval and beside random directions. "not learnt" where R2 is not above 0.
    """
    insist_on_one_thread()  # before numpy is loaded
    if plots:
        from pyramidai_mpi.base.extras import require_extra

        require_extra("plots", "drawing figures (--plots)")
    from pyramidai_mpi.cli.concept_order import ConceptOrder, split_names

    names, tables = split_names(concepts)
    order = ConceptOrder(
        model=model,
        places=places,
        nuclei=None if nuclei == "auto" else Path(nuclei),
        names=tuple(names),
        tables=tuple(Path(table) for table in tables),
        layers=() if layers == "all" else tuple(word.strip() for word in layers.split(",")),
        class_name=class_name,
        level=level,
        folds=folds,
        most=most,
        draws=draws,
        n_shuffles=n_shuffles,
        seed=seed,
        output=output,
        plots=plots,
        overwrite=overwrite,
    )
    if ranks is not None:
        become_ranks(ranks)
    from pyramidai_mpi.cli.session import leave_after_losses, mpi_session

    with mpi_session("stopped; nothing was written", click.get_current_context().find_root().obj) as comm:
        from pyramidai_mpi.cli.concepts_run import find_concepts
        from pyramidai_mpi.cli.main import say_error
        from pyramidai_mpi.ranks.survival import through_losses
        from pyramidai_mpi.ranks.unit_pool import UnitPool
        from pyramidai_mpi.sched import Policy

        code, left = through_losses(
            comm,
            lambda these, again: find_concepts(
                UnitPool(these, policy=Policy(policy), seed=seed), order, quiet=quiet, again=again
            ),
            say_error,
        )
        if left.size < comm.size:
            leave_after_losses(code)
        return code
