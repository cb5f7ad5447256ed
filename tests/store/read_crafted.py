"""Read files, each with all that reads results, in 1 GiB of addresses; print what went otherwise than it should."""

from __future__ import annotations

import resource
import shutil
import sys
import traceback
import warnings
from pathlib import Path

from pyramidai_mpi.api import open_result
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.classification.score_map import read_score_map
from pyramidai_mpi.export.formats import FORMATS, Order, carry_out, load
from pyramidai_mpi.simulate.stored import read_run
from pyramidai_mpi.store.results.reader import read_digest, read_origin, summarise
from pyramidai_mpi.store.results.summary import read_account
from tests.store.crafted import changes, crafted

ORDERS = [(one, variant) for one in FORMATS for variant in (None, *one.variants)]


def look_at_all(result) -> None:
    opened = open_result(result)
    _ = opened.tree, opened.digest, opened.heatmap(), opened.tissue, opened.summary
    _ = [level.tiles for level in opened.levels]


READERS = [read_digest, summarise, read_account, read_origin, read_run, read_score_map, look_at_all]


def outcomes(path: Path, slide: Path, folder: Path):
    """The name of each way to read, and what it raised."""
    for read in READERS:
        yield read.__name__, lambda read=read: read(path)
    for one, variant in ORDERS:
        order = Order(one, folder / f"{one.name}-{variant.name if variant else ''}", variant)
        given = slide if one.needs_slide else None
        yield order.target.name, lambda order=order, given=given: carry_out(order, path, given)


def main(whole: Path, slide: Path, folder: Path, first: int, step: int) -> None:
    for one, variant in ORDERS:
        load((variant or one).writer)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + (1 << 30),) * 2)
    warnings.simplefilter("ignore")
    n_refused = n_read = 0
    for number, (name, change) in enumerate(changes(whole)):
        if number % step != first:
            continue
        try:
            path = crafted(whole, folder / "crafted.h5", change)
        except (OSError, ValueError, TypeError, RuntimeError, KeyError, OverflowError, MemoryError):
            continue  # HDF5 does not make such a file
        for what, read in outcomes(path, slide, folder / "made"):
            (folder / "made").mkdir()
            try:
                read()
                n_read += 1
            except InputError as error:
                n_refused += 1
                if "\n" in str(error) or len(str(error)) > 1000 + len(str(path)):
                    print(f"{name}: {what}: {error!s:.300}")
            except BaseException as error:
                print(f"{name}: {what}: {''.join(traceback.format_exception(error)[-3:])}")
            shutil.rmtree(folder / "made")
        path.unlink()
    print(f"{n_read} read, {n_refused} refused")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
