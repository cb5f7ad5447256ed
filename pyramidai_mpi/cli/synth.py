"""``pyramidai synth``: make a slide."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path, readable=False)


@click.command("synth")
@click.argument("output", type=_PATH, metavar="OUT.tif")
@click.option("--size", required=True, metavar="WIDTHxHEIGHT", help="Pixels of level 0, such as 20000x20000.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another slide.")
@click.option("--mpp", type=float, default=0.25, show_default=True, help="µm per pixel of level 0.")
@click.option(
    "--tumor-share", type=float, default=0.15, show_default=True, help="Share of the tissue that is tumour; 0 for none."
)
@click.option("--polygons", type=_PATH, metavar="FILE", help="Tumour outlines: GeoJSON, or CAMELYON16 ones as JSON.")
@click.option("--polygon-slide", metavar="NAME", help="Entry of a CAMELYON16 file, such as tumor_001.")
@click.option("--nuclei", is_flag=True, help="Write the outlines of its nuclei to OUT.nuclei.geojson too.")
@click.option(
    "--no-nuclear-cue", is_flag=True, help="Let nuclei's size and chromatin follow a map that does not know the tumour."
)
@click.option("--threads", type=int, metavar="N", help="Painting threads.  [default: one a core]")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option("-q", "--quiet", is_flag=True, help="No bar, no summary.")
def command(
    output: Path,
    size: str,
    seed: int,
    mpp: float,
    tumor_share: float,
    polygons: Path | None,
    polygon_slide: str | None,
    nuclei: bool,
    no_nuclear_cue: bool,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> int:
    """Write an H&E-like pyramidal TIFF to OUT.tif and its tumour outlines beside it as GeoJSON.

    Equal options give equal bytes. Outlines keep their real size where their pixel size is known, and are shrunk to fit
    the slide where they must be.
    """
    from tqdm import tqdm

    from pyramidai_mpi.base.counts import counted
    from pyramidai_mpi.base.errors import UsageError
    from pyramidai_mpi.synth import SynthSpec, fit_regions, parse_size, read_regions, write_slide

    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: expected at least 1")
    width, height = parse_size(size)
    regions = None
    if polygons is not None:
        regions, source_mpp = read_regions(polygons, polygon_slide)
        if source_mpp is not None:
            regions = fit_regions(regions, width, height, source_mpp / mpp)
    elif polygon_slide is not None:
        raise UsageError("--polygon-slide names an entry of a file; give the file with --polygons")
    spec = SynthSpec(
        width,
        height,
        seed=seed,
        mpp=mpp,
        tumor_share=tumor_share,
        regions=regions,
        nuclear_cue=not no_nuclear_cue,
    )
    with tqdm(unit="block", disable=True if quiet else None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        written = write_slide(spec, output, progress=show, threads=threads, overwrite=overwrite, nuclei=nuclei)
    if not quiet:
        outlined = "" if written.nuclei_path is None else f"; {written.n_nuclei} nuclei in {written.nuclei_path}"
        click.echo(
            f"{written.path}: {width} x {height} px at {mpp:g} µm/px, {counted(len(written.level_sizes), 'level')}; "
            f"{counted(len(written.regions), 'tumour region')} in {written.truth_path}{outlined}"
        )
    return 0
