"""``pyramidai export``: tables, pictures and files for other programs from a result."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command("export")
@click.argument("result", type=_PATH, metavar="OUT.h5")
@click.option("--geojson", type=_PATH, metavar="F", help="Tiles for QuPath, children within parents; .gz compresses.")
@click.option("--merge", is_flag=True, help="GeoJSON holds the outlines of positive regions instead.")
@click.option("--flat", is_flag=True, help="GeoJSON holds tiles side by side, for programs other than QuPath.")
@click.option("--csv", type=_PATH, metavar="F", help="Tiles, with WSInfer's columns first.")
@click.option("--heatmap", type=_PATH, metavar="F.tif", help="Scores as pyramidal OME BigTIFF.")
@click.option("--overlay", type=_PATH, metavar="F.png", help="Picture of scores, and of the last look at every place.")
@click.option("--deepzoom", type=_PATH, metavar="DIR", help="The overlay as Deep Zoom, for a browser.")
@click.option(
    "--clam", type=_PATH, metavar="DIR", help="Coordinates and features for CLAM and TRIDENT, a folder a level."
)
@click.option("--report", type=_PATH, metavar="F.html", help="A page of pictures and figures that opens anywhere.")
@click.option(
    "--slide", type=_PATH, metavar="SLIDE", help="The slide of the result, to draw over; else its tissue mask."
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(
    result: Path,
    geojson: Path | None,
    merge: bool,
    flat: bool,
    csv: Path | None,
    heatmap: Path | None,
    overlay: Path | None,
    deepzoom: Path | None,
    clam: Path | None,
    report: Path | None,
    slide: Path | None,
    overwrite: bool,
) -> int:
    """Make files for people and other programs out of OUT.h5."""
    from pyramidai_mpi.export.formats import Format, Order, carry_out, check_orders
    from pyramidai_mpi.store.results.reader import open_result
    from pyramidai_mpi.store.results.tables import read_header

    if (merge or flat) and geojson is None:
        raise click.UsageError("--merge and --flat go with --geojson")
    if merge and flat:
        raise click.UsageError("--merge and --flat exclude each other")
    wanted = {
        Format.GEOJSON: geojson,
        Format.CSV: csv,
        Format.HEATMAP: heatmap,
        Format.OVERLAY: overlay,
        Format.DEEPZOOM: deepzoom,
        Format.CLAM: clam,
        Format.REPORT: report,
    }
    orders = [Order(one, target, merge=merge, flat=flat) for one, target in wanted.items() if target is not None]
    if not orders:
        options = ", ".join(f"--{one}" for one in wanted)
        raise click.UsageError(f"nothing to export; give at least one of {options}")
    with open_result(result) as file:
        slide_name = read_header(file).slide.name
    check_orders(orders, slide_name, overwrite=overwrite, inputs=[result, *([] if slide is None else [slide])])
    for order in orders:
        carry_out(order, result, slide, overwrite=overwrite)
    return 0
