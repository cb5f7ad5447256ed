"""``pyramidai simulate``: a cluster before it is bought."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyramidai_mpi.simulate.planning import Plan
    from pyramidai_mpi.simulate.stored import PlannedStride, StoredRun
    from pyramidai_mpi.simulate.study import Row, Setting, Work

_PATH = click.Path(path_type=Path, readable=False)
_DEALINGS = ["round-robin", "random", "block", "slides"]
_WORKERS = "1..64"
_STRIDE_MODES = ["window", "shared", "adaptive", "adaptive-shared"]
_BALANCINGS = ["none", "each-level", "steal-one", "steal-half", "oracle", "reference"]


@click.command("simulate")
@click.argument("results", type=_PATH, nargs=-1, required=True, metavar="RESULT.h5...")
@click.option(
    "--workers",
    metavar="LIST",
    help=f"Numbers of ranks, by commas: 12, 1..1024 (doubling), 4..48/4 (every 4th).  [default: {_WORKERS}]",
)
@click.option("--dealing", type=click.Choice(_DEALINGS), multiple=True, help="May be repeated.  [default: all]")
@click.option("--balancing", type=click.Choice(_BALANCINGS), multiple=True, help="May be repeated.  [default: all]")
@click.option("--apart", is_flag=True, help="One slide after the other: mean of tiles, sum of times; not one pool.")
@click.option("--seconds", metavar="S[,S...]", help="Seconds a tile of level 0, 1, ...  [default: as the results took]")
@click.option("--stride", type=int, metavar="PX", help="Plan windows at a stride, from results without.")
@click.option(
    "--stride-mode",
    type=click.Choice(_STRIDE_MODES),
    default=_STRIDE_MODES[0],
    show_default=True,
    help="How these are to be computed. For shared give --window-seconds; for the adaptive ones the result of such a "
    "run, without --stride.",
)
@click.option(
    "--mode",
    type=click.Choice(["pyramid", "reference"]),
    help="Whether these windows are below positive tiles, or all over the tissue.  [default: as the results]",
)
@click.option(
    "--window-seconds",
    type=float,
    metavar="S",
    help="Seconds of one of these windows.  [default: of a tile of level 0]",
)
@click.option("--batch-size", type=int, metavar="N", help="Most tiles in one batch.  [default: of the results]")
@click.option("--batch-seconds", type=float, default=0.0, metavar="S", help="Seconds a batch besides its tiles.")
@click.option("--opening-seconds", type=float, metavar="S", help="To open a slide.  [default: as the results took]")
@click.option("--latency", type=float, default=20e-6, show_default=True, metavar="S", help="Seconds of a message.")
@click.option("--bandwidth", type=float, default=1e9, show_default=True, metavar="B", help="Bytes a second and rank.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of dealing at random, and of stealing.")
@click.option("--plan", type=float, metavar="HOURS", help="How many ranks are done within so many hours?")
@click.option("--most", type=int, default=4096, show_default=True, metavar="N", help="Ranks that --plan may take.")
@click.option("--json", "json_file", type=_PATH, metavar="F.json", help="All figures as JSON.")
@click.option("--plot", type=_PATH, metavar="PREFIX", help="Curves as PREFIX.png and PREFIX.svg.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(
    results: tuple[Path, ...],
    workers: str | None,
    dealing: tuple[str, ...],
    balancing: tuple[str, ...],
    apart: bool,
    seconds: str | None,
    stride: int | None,
    stride_mode: str,
    mode: str | None,
    window_seconds: float | None,
    batch_size: int | None,
    batch_seconds: float,
    opening_seconds: float | None,
    latency: float,
    bandwidth: float,
    seed: int,
    plan: float | None,
    most: int,
    json_file: Path | None,
    plot: Path | None,
    overwrite: bool,
) -> int:
    """Simulate the runs of RESULT.h5... on other numbers of ranks, with the real scheduler under a virtual clock.

    Several results are one pool of work, as in `pyramidai SLIDE...`. The answer to --plan stands for the program as it
    is (steal-half; the roots of one slide dealt round-robin, many slides one by one); it comes without a table unless
    --workers asks for one.

    Of a run with --stride a tile is a block of windows, which costs what its windows do.
    """
    from dataclasses import replace

    from tqdm import tqdm

    from pyramidai_mpi.base.errors import UsageError
    from pyramidai_mpi.base.extras import require_extra
    from pyramidai_mpi.models.package import BATCH_SHAPE
    from pyramidai_mpi.simulate.costs import Network
    from pyramidai_mpi.simulate.dealing import Dealing
    from pyramidai_mpi.simulate.plot import plot_targets, write_plots
    from pyramidai_mpi.simulate.report import as_json, plan_lines, table_lines
    from pyramidai_mpi.simulate.stored import costs_from, pool, read_run
    from pyramidai_mpi.simulate.study import Balancing, Setting, compare, ways
    from pyramidai_mpi.store.files.placing import check_target, placed

    targets = ([json_file] if json_file else []) + (plot_targets(plot) if plot else [])
    for target in targets:
        check_target(target, overwrite=overwrite, inputs=results)
    if plot is not None:
        require_extra("plots", "--plot")
    numbers = parse_workers(workers or _WORKERS)
    if plan is not None and (plan <= 0 or most < 1):
        raise UsageError(f"--plan {plan:g} --most {most}: expected more than 0 hours, and at least 1 rank")
    planned = _planned(stride, stride_mode, mode, window_seconds)
    runs = [read_run(path, planned) for path in results]
    costs = costs_from(
        runs,
        level_s=None if seconds is None else parse_seconds(seconds),
        batch_size=batch_size,
        batch_s=batch_seconds,
        opening_s=opening_seconds,
    )
    if all(run.work.forest.windows is None for run in runs):  # blocks of windows fill what networks run at a time
        costs = replace(costs, grain=max(run.batch_shape or BATCH_SHAPE for run in runs))
    if window_seconds is not None:
        costs = replace(costs, level_s=(window_seconds, *(costs.level_s[1:] or costs.level_s)))
    setting = Setting(costs, Network(latency, bandwidth), seed)
    works = [run.work for run in runs] if apart else [pool(runs)]
    for line in _setting_lines(runs, works, setting):
        click.echo(line)
    dealings = [Dealing(name) for name in dealing or (_DEALINGS if len(runs) > len(works) else _DEALINGS[:-1])]
    balancings = [Balancing(name) for name in balancing or _BALANCINGS]
    rows: list[Row] = []
    if plan is None or workers is not None:
        with tqdm(total=len(numbers) * len(ways(dealings, balancings)), disable=None, leave=False) as bar:
            rows = compare(works, numbers, setting, dealings, balancings, lambda _: bar.update(1))
        for line in table_lines(rows):
            click.echo(line)
    answer = None if plan is None else _plan(runs, works, setting, plan * 3600, most)
    for line in plan_lines(answer) if answer else ():
        click.echo(line)
    if json_file is not None:
        with placed(json_file, overwrite=overwrite, inputs=results) as temporary:
            temporary.write_text(as_json(rows, answer, setting))
    if plot is not None:
        write_plots(rows, plot, overwrite=overwrite)
    return 0


def parse_workers(text: str) -> list[int]:
    """Numbers of workers, in order, each once: ``12``, ``A..B`` (A, twice that, and so on, and B), ``A..B/STEP``."""
    from pyramidai_mpi.base.errors import UsageError

    numbers: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\.\.(\d+)(?:/(\d+))?)?", part.strip())
        first, last, step = (int(n) if n else None for n in found.groups()) if found else (None, None, None)
        if not first or (last is not None and last < first) or step == 0:
            raise UsageError(f"--workers {text}: expected numbers from 1 on such as 12, 1..1024 or 4..48/4, by commas")
        last = last or first
        if step is None:
            numbers |= {first << n for n in range((last // first).bit_length())} | {last}
        else:
            numbers |= set(range(first, last + 1, step))
    return sorted(numbers)


def parse_seconds(text: str) -> tuple[float, ...]:
    """Seconds a tile, by commas, level 0 first."""
    from pyramidai_mpi.base.errors import UsageError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--seconds {text}: expected seconds such as 0.33 or 0.33,0.33,0.31") from None


def _planned(
    stride: int | None, stride_mode: str, mode: str | None, window_seconds: float | None
) -> PlannedStride | None:
    """The windows that are to be planned.

    Raises
    ------
    UsageError
        When no result can tell of them.
    """
    from pyramidai_mpi.base.errors import UsageError
    from pyramidai_mpi.base.types import Mode
    from pyramidai_mpi.simulate.stored import PlannedStride

    if stride is None:
        if stride_mode != _STRIDE_MODES[0] or mode is not None or window_seconds is not None:
            raise UsageError(
                "--stride-mode, --mode and --window-seconds say how --stride is planned; give --stride too"
            )
        return None
    if stride_mode.startswith("adaptive"):
        raise UsageError(
            f"--stride-mode {stride_mode}: which windows it leaves out, a result without strides does not tell; give "
            f"that of a run with --stride {stride} --stride-mode {stride_mode}, and no --stride here"
        )
    if stride_mode == "shared" and window_seconds is None:
        raise UsageError(
            "--stride-mode shared: what a window costs then, a result without strides does not tell; give it with "
            "--window-seconds, or a result of such a run, and no --stride here"
        )
    return PlannedStride(stride, None if mode is None else Mode(mode))


def _setting_lines(runs: Sequence[StoredRun], works: Sequence[Work], setting: Setting) -> Iterator[str]:
    """What is simulated, and with what."""
    from pyramidai_mpi.simulate.study import seconds_alone

    costs = setting.costs
    tiles, windows = (sum(getattr(work.forest, name) for work in works) for name in ("n_tiles", "n_windows"))
    has_blocks = any(work.forest.windows is not None for work in works)
    how = "" if len(runs) == 1 else ", as one pool of work" if len(works) == 1 else ", one after the other"
    of = f" of {windows} windows" if has_blocks else ""
    yield f"{len(runs)} slide{'s' if len(runs) > 1 else ''}{how}: {tiles} tiles{of}"
    pruned = [run.name for run in runs if run.mode == "exhaustive"]
    if pruned:
        yield f"of exhaustive runs the part that their decisions zoom into: {', '.join(pruned)}"
    levels = ", ".join(f"{seconds:.4g}" for seconds in costs.level_s)
    what = "window" if has_blocks else "tile"
    which = f"a {what} of any level" if len(costs.level_s) == 1 else f"a {what} of level 0, 1, ..."
    yield f"{levels} s {which}, batches of {costs.batch_size}, {costs.opening_s:.3g} s to open a slide"
    hours = sum(seconds_alone(work, costs, opens=True) for work in works) / 3600
    yield f"{hours:.4g} core-hours of work"
    yield ""


def _plan(runs: Sequence[StoredRun], works: Sequence[Work], setting: Setting, limit_s: float, most: int) -> Plan:
    """Plan for the program as it is."""
    from pyramidai_mpi.simulate.dealing import Dealing
    from pyramidai_mpi.simulate.planning import plan_ranks

    is_pool = len(works) < len(runs)
    loading_s = [run.timings.loading_s for run in runs]
    # a pool loads the networks once, and opens slides as part of the work
    serial_s = max(loading_s) if is_pool else sum(loading_s) + len(runs) * setting.costs.opening_s
    dealing = Dealing.SLIDES if is_pool else Dealing.ROUND_ROBIN
    return plan_ranks(works, limit_s, setting, dealing=dealing, serial_s=serial_s, most=most)
