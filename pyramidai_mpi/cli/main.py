"""The command line: dispatch, errors, exit codes. Imports neither MPI nor a heavy library."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import click

from pyramidai_mpi import __version__
from pyramidai_mpi.base.errors import ExitCode, PyramidError, StoppedError, UsageError, machine_failure, printable
from pyramidai_mpi.cli.launcher import launched_rank, launched_size, prepare_environment
from pyramidai_mpi.cli.mistyped import mistyped
from pyramidai_mpi.cli.streams import ReaderGoneError, prepare_streams
from pyramidai_mpi.process.exit import (
    PATIENCE_S,
    leave_memory_to_the_system,
    say_before_leaving,
    speaks_for_its_job,
    tell_launcher_of_mpich,
)
from pyramidai_mpi.process.parent import ParentWatch
from pyramidai_mpi.process.system_timer import SystemTimer
from pyramidai_mpi.process.umask import keep_owners_rights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

_COMMANDS = {
    "run": "Analyse slides (the default: `pyramidai SLIDE` is `pyramidai run SLIDE`).",
    "digest": "Print the digest of a result: equal results, equal digests.",
    "info": "Describe a slide, a result, a model or patches.",
    "tissue": "Show what of a slide is tissue, and so would be looked at.",
    "export": "Make tables, pictures and files for other programs out of a result.",
    "explain": "Show where in their tiles a network sees a class: Grad-CAM, occlusion, RISE, LIME and others.",
    "view": "Show a result over its slide in the browser.",
    "tune": "Choose the thresholds from annotated slides.",
    "evaluate": "Compare results with ground truth: what the pyramid keeps, misses and gains.",
    "classify": "Tell tumour slides from normal ones: fit a classifier on results, or ask one.",
    "models": "List, build, import and quantise model packages.",
    "train": "Train a model package on annotated slides.",
    "train-slides": "Train an encoder and an aggregator together on labels of whole slides.",
    "train-whole": "Train a network on whole slides, to tell tissue or anything else pixel by pixel.",
    "segment": "Segment slides with a network of train-whole: a mask of each.",
    "concepts": "Say whether a model has learnt what people measure in nuclei, and turns on it.",
    "simulate": "Simulate the runs of results on other numbers of ranks; plan a cluster.",
    "patches": "Cut patches out of slides, and look at files of them.",
    "merge": "Join the parts that array jobs have made (run --part I/N); say which are missing.",
    "synth": "Make an H&E-like slide with known tumour outlines.",
}
_ON_RANKS = (
    ("run",),
    ("segment",),
    ("explain",),
    ("concepts",),
    ("train",),
    ("train-slides",),
    ("train-whole",),
    ("patches", "extract"),
)
"""Commands that ranks do together."""

_ASKED_BY_SHELL = "_PYRAMIDAI_COMPLETE"
"""Set by the functions that complete words in a shell: click's name for it."""
_DECIMAL_COMMA = re.compile(r"'(\d*),(\d+)' is not a valid float")
_MOST_FINALISING_S = 120.0
"""From the end of the command to that of the process: all ranks have done their work by then."""
_AS_BY_SIGPIPE = 128 + signal.SIGPIPE
"""What a shell reports of a program that the end of its reader has ended."""


class _LazyGroup(click.Group):
    """Loads a command's module when the command is called or its help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"pyramidai_mpi.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        from click.shell_completion import CompletionItem

        commands = [CompletionItem(name, help=says) for name, says in _COMMANDS.items() if name.startswith(incomplete)]
        return [*commands, CompletionItem(incomplete, type="file")]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


_HELP = """Analyse gigapixel images level by level, on as many MPI ranks as you start.

\b
pyramidai SLIDE                             one process
pyramidai SLIDE --ranks 12                  twelve on this machine
mpirun -n 12 python -m pyramidai_mpi SLIDE  the same, by your MPI's launcher
srun -n 128 python -m pyramidai_mpi SLIDE   a SLURM cluster
"""


@click.group(
    cls=_LazyGroup,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="pyramidai")
def _pyramidai() -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with the exit code of the design."""
    prepare_streams()
    umask = keep_owners_rights()
    if umask and launched_rank() == 0:
        click.echo(
            f"pyramidai: umask {umask:03o} would keep files from their own maker, and is {umask & 0o077:03o} here",
            err=True,
        )
    code = run_command_line(list(sys.argv[1:] if arguments is None else arguments))
    # As soon as one rank has left with a code but 0, `srun -K1` and Open MPI's launchers terminate those that are about
    # to leave with the same one, and report 143. And who asked to stop may ask twice.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if arguments is None:  # nothing comes after it in this process
        leave_memory_to_the_system()
    if launched_size() > 1 and "mpi4py.MPI" in sys.modules:
        _leave_mpi_in_time(code)
    sys.exit(code)


def _leave_mpi_in_time(code: int) -> None:
    """End this process with `code` also where MPI_Finalize, which follows, waits for ranks that have died."""
    from pyramidai_mpi.cli.session import leave_after_losses, leaves_after_losses

    if leaves_after_losses():
        leave_after_losses(code)
    SystemTimer("_exit", code).set(_MOST_FINALISING_S)


def run_command_line(arguments: list[str]) -> int:
    """Run a command line and return its exit code."""
    prepare_environment()  # before any command's module loads numpy
    if _ASKED_BY_SHELL in os.environ:
        from pyramidai_mpi.cli.completion import prepare_completion

        prepare_completion()
    first = arguments[0] if arguments else "--help"
    if first not in _COMMANDS and first not in {"-h", "--help", "--version"}:
        arguments = ["run", *arguments]
    if launched_rank() != 0 and {"-h", "--help", "--version"} & set(arguments):
        return ExitCode.OK
    if _is_job(arguments):
        ParentWatch(f"rank {launched_rank()}")
    try:
        code = _call(arguments or ["--help"])
    except click.ClickException as error:
        say_error(_usage_line(error, arguments))
        return ExitCode.USAGE
    except StoppedError as error:
        if launched_rank() == 0:
            click.echo(f"pyramidai: stopped: {error}", err=True)
        return error.exit_code
    except ReaderGoneError:
        return _AS_BY_SIGPIPE  # `pyramidai info OUT.h5 | head -1`: nothing is wrong, and there is nobody to tell
    except PyramidError as error:
        say_error(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        if _is_job(arguments):  # before MPI has started; afterwards the session ends all ranks
            tell_launcher_of_mpich(ExitCode.STOPPED)
        return ExitCode.STOPPED
    except Exception as error:
        failure = machine_failure(error)
        if failure is not None:
            say_error(str(failure))
            return failure.exit_code
        traceback.print_exc()
        say_error("this is a bug; please report it with the lines above")
        return ExitCode.INTERNAL
    return int(code or ExitCode.OK)


def _is_job(arguments: list[str]) -> bool:
    """Whether this is one of several ranks of a command that they do together."""
    is_one = any(tuple(arguments[: len(words)]) == words for words in _ON_RANKS)
    return is_one and launched_size() > 1


def _call(arguments: list[str]) -> int | None:
    """Call the command; an error that only this rank may have met, before MPI started, becomes that of all ranks."""
    try:
        if "" in arguments:  # as a path it would be the current folder, all slides of which would be analysed
            raise UsageError("'': an empty word, as of a variable without a value; leave it out, or say what was meant")
        code: int | None = _pyramidai.main(arguments, prog_name="pyramidai", standalone_mode=False, obj=arguments)
    except click.Abort:  # what click makes of KeyboardInterrupt: no trouble, but somebody's wish
        raise
    except Exception as error:
        if not _is_job(arguments) or (isinstance(error, PyramidError) and error.agreed):
            raise
        trouble = UsageError(_usage_line(error, arguments)) if isinstance(error, click.ClickException) else error
        try:
            from pyramidai_mpi.cli.session import tell_other_ranks

            tell_other_ranks(arguments, trouble)
        except Exception as told:
            if isinstance(told, PyramidError) and told.agreed:
                raise
            return _end_job_without_mpi(trouble)
    return code


def _end_job_without_mpi(trouble: Exception) -> ExitCode:
    """Say what this rank has met, and have the launcher end the others where it can be told: MPI cannot be loaded."""
    code = trouble.exit_code if isinstance(trouble, PyramidError) else ExitCode.INTERNAL
    where = f"(rank {launched_rank()}, host {os.uname().nodename})"
    trace = "" if isinstance(trouble, PyramidError) else "".join(traceback.format_exception(trouble))
    if speaks_for_its_job():  # all ranks of a host may have met it
        said = printable(" ".join(str(trouble).split()))
        say_before_leaving(f"{trace}pyramidai: error: {said} {where}\n", code)
    if tell_launcher_of_mpich(code):
        time.sleep(PATIENCE_S)  # it ends this process as well
    return code


def _usage_line(error: click.ClickException, arguments: Sequence[str]) -> str:
    if arguments[:1] == ["run"] and not "".join(arguments[1:2]).startswith("-"):
        meant = mistyped(arguments[1:2], _COMMANDS)
        if meant is not None:  # of a mistyped command, the options are unknown as well
            return str(meant)
    command = " ".join(["pyramidai", *arguments[:1]]) if arguments[:1] and arguments[0] in _COMMANDS else "pyramidai"
    if isinstance(error, click.UsageError) and error.ctx:
        command = error.ctx.command_path
    message = error.format_message()
    if comma := _DECIMAL_COMMA.search(message):
        return f"{message} Write it with a point: {comma[1]}.{comma[2]}"
    return f"{message} (see {command} --help)"


def say_error(message: str) -> None:
    """One line on standard error, once for all ranks."""
    if launched_rank() == 0:
        click.echo(f"pyramidai: error: {printable(' '.join(message.split()))}", err=True)
