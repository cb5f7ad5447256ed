"""``pyramidai view``: a result over its slide, in the browser."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from pyramidai_mpi.base.errors import printable

_PATH = click.Path(path_type=Path, readable=False)


@click.command("view")
@click.argument("result", type=_PATH, metavar="OUT.h5")
@click.option("--slide", type=_PATH, metavar="SLIDE", help="The slide of the result.  [default: looked for beside it]")
@click.option("--annotations", type=_PATH, metavar="FILE", help="Outlines to show: GeoJSON, or ASAP's XML.")
@click.option("--explained", type=_PATH, metavar="EXPLAINED.h5", help="Explained tiles of the slide, as a layer.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Port to listen on.  [default: a free one]"
)
@click.option("--no-browser", is_flag=True, help="Open no browser; print the address alone.")
def command(
    result: Path, slide: Path | None, annotations: Path | None, explained: Path | None, port: int, no_browser: bool
) -> int:
    """Show OUT.h5 over its slide in the browser, until Ctrl-C.

    The page is served on this machine alone, to whoever knows its address.
    """
    from pyramidai_mpi.slides.dicom import file_of_slide
    from pyramidai_mpi.view.opening import open_view
    from pyramidai_mpi.view.pages import Pages
    from pyramidai_mpi.view.server import ViewServer

    with (
        open_view(result, None if slide is None else file_of_slide(slide), annotations, explained) as view,
        ViewServer(Pages(view), port) as server,
    ):
        if view.note:
            click.echo(printable(f"{result.name}: {view.note}"), err=True)
        click.echo(f"{server.address}  (Ctrl-C ends it)")
        sys.stdout.flush()
        if not no_browser and _has_screen():
            import webbrowser

            webbrowser.open(server.address)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # how it is meant to end
            click.echo("", err=True)
    return 0


def _has_screen() -> bool:
    """Whether a browser could show itself; without a screen, one of the terminal might take the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
