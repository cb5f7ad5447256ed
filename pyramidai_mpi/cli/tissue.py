"""``pyramidai tissue``: what of a slide would be looked at."""

from __future__ import annotations

from pathlib import Path

import click

from pyramidai_mpi.base.errors import printable
from pyramidai_mpi.base.settings import READERS, TISSUE_METHODS, SlideInput
from pyramidai_mpi.cli.pool_options import odd_levels_option
from pyramidai_mpi.cli.tissue_option import parse_tissue

_PATH = click.Path(path_type=Path, readable=False)


@click.command("tissue")
@click.argument("slide", type=_PATH, metavar="SLIDE")
@click.option("-o", "--output", type=_PATH, metavar="PICTURE.png", help="The slide with the outline of its tissue.")
@click.option("--mask", type=_PATH, metavar="MASK.png", help="The mask alone, as `run --tissue-mask` takes it.")
@click.option(
    "--tissue",
    default=TISSUE_METHODS[0],
    show_default=True,
    metavar="od|hsv-otsu|DIR",
    help="By optical density, by saturation and hue, or by the network of a folder.",
)
@click.option("--tissue-limit", type=float, metavar="X", help="Least optical density of tissue (od).  [default: 0.03]")
@click.option("--mpp", type=float, metavar="X", help="µm per pixel of the slide, where it does not say or is wrong.")
@click.option("--reader", type=click.Choice(READERS), default="auto", show_default=True, help="As of `run`.")
@odd_levels_option
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(
    slide: Path,
    output: Path | None,
    mask: Path | None,
    tissue: str,
    tissue_limit: float | None,
    mpp: float | None,
    reader: str,
    odd_levels: str,
    overwrite: bool,
) -> int:
    """Find the tissue of a SLIDE as a run does, at 8 µm per pixel; print its area, and draw it.

    The mask of a run has pixels of its own size, a whole number along its tiles: its edges lie up to a pixel elsewhere.
    """
    from pyramidai_mpi.base.errors import InputError, UsageError
    from pyramidai_mpi.export.tissue_picture import SlideTissue
    from pyramidai_mpi.run.opening import find_tissue
    from pyramidai_mpi.slides.dicom import file_of_slide
    from pyramidai_mpi.slides.readers.choice import open_slide
    from pyramidai_mpi.slides.readers.trial import try_opening
    from pyramidai_mpi.store.files.placing import check_target

    slide = file_of_slide(slide)
    way = parse_tissue(tissue)
    if way.mask is not None:
        raise UsageError(f"--tissue {tissue}: expected {', '.join(TISSUE_METHODS)} or a network's folder")
    source = SlideInput(
        slide,
        mpp,
        reader=reader,
        tissue=way.method,
        tissue_limit=tissue_limit,
        tissue_network=way.network,
        odd_levels=odd_levels,
    )
    if output is not None and output == mask:
        raise UsageError(f"{output}: is named for the picture and for the mask; name two files")
    for target in (output, mask):
        if target is not None:
            check_target(target, overwrite=overwrite, inputs=[slide])
    with try_opening(slide, reader, odd_levels) as trial:
        trial.check()
    opened = open_slide(slide, reader, odd_levels=odd_levels)
    try:
        um_px = source.mpp or opened.info.mpp
        if um_px is None:
            raise InputError(f"{slide}: does not say how large its pixels are; give µm per pixel with --mpp")
        found = SlideTissue.at_best(um_px, lambda downsample: find_tissue(opened, source, um_px, downsample))
        share = 100 * float(found.mask.mean())
        click.echo(printable(f"{slide.name}: {found.area_mm2:.2f} mm² of tissue, {share:.1f} % of the slide"))
        if output is not None:
            found.write_picture(opened, output, overwrite=overwrite)
            click.echo(printable(f"picture: {output}"))
        if mask is not None:
            found.write_mask(mask, slide, overwrite=overwrite)
            click.echo(printable(f"mask: {mask}"))
    finally:
        opened.close()
    return 0
