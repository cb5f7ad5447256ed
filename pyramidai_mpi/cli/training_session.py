"""What the commands that train have in common: their options, and the ranks that they train on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.settings import DEFAULT_POLICY, POLICIES
from pyramidai_mpi.cli.launcher import become_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpi4py import MPI

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.store.files.lock import OutputLock
    from pyramidai_mpi.training.exact.loop import TrainingProgress

_PATH = click.Path(path_type=Path, readable=False)


@dataclass(frozen=True)
class TrainingOrder:
    """How a training is carried out; nothing of this but `seed` changes what comes of it.

    Attributes
    ----------
    output
        Folder of the package.
    work
        Folder that keeps what a stopped training goes on from; beside the output where it is not given.
    seed
        Of all random choices.
    resume, overwrite
        Go on from what is in `work`, or begin anew and replace the output.
    save_every_s
        Seconds between saved states.
    check_work
        See `OutputLock.check`, of the lock that this attempt has on `work`; on rank 0.
    """

    output: Path
    work: Path
    seed: int
    resume: bool
    overwrite: bool
    save_every_s: float
    policy: str
    time_limit: str | None
    ranks: str | None
    quiet: bool
    check_work: Callable[[], None] = lambda: None


def training_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add these options; the command gets them as ``order``, a `TrainingOrder`."""

    @wraps(function)
    def with_order(
        *args: Any,
        output: Path,
        work: Path | None,
        seed: int,
        resume: bool,
        overwrite: bool,
        save_every: float,
        policy: str,
        time_limit: str | None,
        ranks: str | None,
        quiet: bool,
        **others: Any,
    ) -> int:
        if resume and overwrite:
            raise UsageError("--resume goes on and --overwrite begins anew; give one")
        _check_finite(click.get_current_context())
        folder = _folder_of_work(output, work)
        order = TrainingOrder(output, folder, seed, resume, overwrite, save_every, policy, time_limit, ranks, quiet)
        return function(*args, order=order, **others)

    options: list[Any] = [
        click.option("-o", "--output", type=_PATH, required=True, metavar="DIR", help="Folder of the package."),
        click.option(
            "--work", type=_PATH, metavar="DIR", help="Keeps states, tiles and the log.  [default: OUTPUT.work]"
        ),
        click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True),
        click.option("--resume", is_flag=True, help="Go on where a training that was stopped or killed has been."),
        click.option("--overwrite", is_flag=True, help="Replace the package, and begin anew."),
        click.option(
            "--save-every",
            type=click.FloatRange(0),
            default=60.0,
            show_default=True,
            metavar="S",
            help="Seconds between saved states within an epoch; 0 saves after each step.",
        ),
        click.option(
            "--policy",
            type=click.Choice(POLICIES),
            default=DEFAULT_POLICY,
            show_default=True,
            help="How work finds idle ranks. Does not change the result.",
        ),
        click.option(
            "--time-limit", metavar="TIME", help="Stop a minute before this time is up, for --resume to go on."
        ),
        click.option("--ranks", metavar="N|auto", help="Start this many ranks on this machine, as with run."),
        click.option("-q", "--quiet", is_flag=True, help="No line about how far it is."),
    ]
    command = with_order
    for option in reversed(options):
        command = option(command)
    return command


def _check_finite(context: click.Context) -> None:
    """See that no option is NaN, which is in every range, nor infinite.

    Raises
    ------
    UsageError
        One is.
    """
    for option in context.command.params:
        value = context.params.get(str(option.name))
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{str(option.name).replace('_', '-')} {value}: expected a number that is finite")


def _folder_of_work(output: Path, work: Path | None) -> Path:
    """The folder of work, apart from that of the package.

    Raises
    ------
    UsageError
        One lies in the other, or the package would get no name of its own.
    """
    if output.name in {"", ".."}:
        raise UsageError(f"-o {output}: a package is a new folder; name it")
    folder = output.with_name(f"{output.name}.work") if work is None else work
    if folder.name in {"", ".."}:
        raise UsageError(f"--work {folder}: name a folder that is for this training alone")
    places = output.resolve(), folder.resolve()
    if any(one == other or one in other.parents for one, other in (places, places[::-1])):
        raise UsageError(f"--work {folder}: and the package {output} lie in each other; name folders apart")
    return folder


def train_on_ranks(
    order: TrainingOrder,
    train: Callable[[UnitPool, TrainingOrder, Callable[[TrainingProgress], None] | None], int],
    show: Callable[[TrainingProgress], None] | None = None,
) -> int:
    """Train on all ranks, and on those that are left where the MPI lets them outlive each other; the exit code.

    Parameters
    ----------
    order
        How.
    train
        Called with the ranks, the order (from the second attempt on, one to resume) and `show`. Collective. A rank
        calls it from its main thread.
    show
        Called on rank 0 after each step.

    Raises
    ------
    OutputExistsError
        Another training is at work in the same folder.
    StoppedError
        On all ranks, which were told to stop.
    """
    from dataclasses import replace

    from pyramidai_mpi.cli.session import leave_after_losses, mpi_session
    from pyramidai_mpi.process.stop import StopWish, parse_duration, stopped_error

    stop = StopWish.of_job(None if order.time_limit is None else parse_duration(order.time_limit))
    if order.ranks is not None:
        become_ranks(order.ranks)
    stop.listen()
    arguments: Sequence[str] = click.get_current_context().find_root().obj
    with mpi_session("stopped; --resume goes on from the last saved state", arguments) as comm:
        from pyramidai_mpi.cli.main import say_error
        from pyramidai_mpi.ranks.survival import through_losses
        from pyramidai_mpi.ranks.unit_pool import PoolStoppedError, UnitPool
        from pyramidai_mpi.sched import Policy
        from pyramidai_mpi.training.torch_setup import use_one_thread

        use_one_thread()

        def attempt(left: MPI.Intracomm, again: bool) -> int:
            pool = UnitPool(left, policy=Policy(order.policy), seed=order.seed, stop=stop.is_asked)
            going_on = replace(order, resume=True, overwrite=False) if again else order
            lock = pool.on_rank0(lambda: _lock_of(order, makes_folders=not again))
            if lock is not None:
                going_on = replace(going_on, check_work=lock.check)
            try:
                with stop.letting_batches_finish():
                    return train(pool, going_on, show if left.rank == 0 else None)
            except PoolStoppedError:
                stop.leave()
                raise stopped_error(f"what was trained is kept in {order.work}", stop.reason) from None
            finally:
                if lock is not None:
                    lock.release()

        code, left = through_losses(comm, attempt, say_error)
        if left.size < comm.size:
            leave_after_losses(code)
        return code


def _lock_of(order: TrainingOrder, *, makes_folders: bool) -> OutputLock:
    """Keep other trainings out of a folder of work: two would write one state, each over the other's."""
    from pyramidai_mpi.store.files.lock import OutputLock
    from pyramidai_mpi.store.files.placing import make_folder

    if makes_folders:  # not after a loss of ranks: where they have gone meanwhile, so has what was trained
        make_folder(order.output.parent, "-o")
        make_folder(order.work.parent, "--work")
    return OutputLock.take(order.work, patient=True)
