"""A run on ranks of its own, started from Python: its words, its progress, and the error that it ends with."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import ERROR_OF_EXIT_CODE, ExitCode, LostRankError, PyramidError
from pyramidai_mpi.cli.progress import progress_of
from pyramidai_mpi.process.ranks import command_for_ranks, environment_for_ranks

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.run.progress import RunProgress

_LINES_KEPT = 20
_LAST_WORD = re.compile(r"^pyramidai: (?:error|stopped): ")


def run_on_ranks(
    n: int, settings: RunSettings, time_limit: str | None, show: Callable[[RunProgress], None] | None = None
) -> None:
    """Run ``pyramidai run`` on `n` ranks of this machine and wait for its end.

    Parameters
    ----------
    show
        Told of the progress, every few seconds.

    Raises
    ------
    PyramidError
        What the run has ended with.
    KeyboardInterrupt
        This process was interrupted, and the ranks after it; what they had done is kept.
    """
    program = [sys.executable, "-m", "pyramidai_mpi", *words_of(settings, time_limit)]
    last: deque[str] = deque(maxlen=_LINES_KEPT)
    with subprocess.Popen(
        command_for_ranks(n, program),
        env=environment_for_ranks(n),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        start_new_session=True,  # an interrupt reaches the ranks once: from here
    ) as job:
        assert job.stderr is not None
        try:
            for line in job.stderr:
                last.append(line.rstrip("\n"))
                if show is not None and (progress := progress_of(line)) is not None:
                    show(progress)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(job.pid, signal.SIGINT)  # as a terminal does
            # Leaving the block waits a quarter of a second after an interrupt, and ranks finish their batches first:
            # who calls again must not meet them. They can end only while somebody takes what they say.
            for _ in job.stderr:
                pass
            job.wait()
            raise
    if job.returncode not in {ExitCode.OK, ExitCode.TILES_FAILED}:
        raise _error_of(job.returncode, list(last))


def words_of(settings: RunSettings, time_limit: str | None) -> list[str]:
    """The command line, after the program's name, that runs the same."""
    slide, model, output, schedule = settings.slide, settings.model, settings.output, settings.schedule
    windows = settings.windows
    options = {
        "model": model.path,
        "output": output.path,
        "mode": settings.mode.value,
        "mpp": slide.mpp,
        "levels": slide.levels,
        "roi": slide.regions.roi,
        "exclude": slide.regions.exclude,
        "tissue-mask": slide.regions.tissue_mask,
        "tissue": slide.tissue_network or slide.tissue,
        "tissue-limit": slide.tissue_limit,
        "min-tissue": slide.min_tissue,
        "batch-size": schedule.batch_size,
        "policy": schedule.policy,
        "seed": schedule.seed,
        "audit": schedule.audit,
        "positive-class": model.positive_class,
        "writer": output.writer,
        "backend": model.backend,
        "precision": model.precision,
        "feature-type": model.feature_type,
        "encoder": model.encoder,
        "reader": slide.reader,
        "odd-levels": slide.odd_levels,
        "read-ahead": schedule.read_ahead,
        "stride": windows.stride,
        "overlap": windows.overlap,
        "stride-mode": windows.mode,
        "time-limit": time_limit,
        "scratch": settings.hosts.scratch,
    }
    switches = {
        "no-tissue": slide.regions.no_tissue,
        "allow-upsampling": slide.allow_upsampling,
        "features": model.features,
        "slide-sha256": slide.sha256,
        "overwrite": output.overwrite,
        "resume": output.resume,
        "accept-mixed": output.accept_mixed,
        "allow-approximate": windows.allow_approximate,
        "no-compiled-cache": not model.compiled_cache,
        "own-disks": settings.hosts.own_disks,
        "send-slide": settings.hosts.send_slide,
    }
    return [
        "run",
        *(f"--{name}={value}" for name, value in options.items() if value is not None),
        *(f"--threshold={level}={value!r}" for level, value in model.thresholds.items()),
        *(f"--{name}" for name, is_on in switches.items() if is_on),
        "--",
        str(slide.path),
    ]


def _error_of(code: int, last: list[str]) -> PyramidError:
    """What a job says that has ended with `code`, in its last lines."""
    said = next((line for line in reversed(last) if _LAST_WORD.match(line)), None)
    if code in ERROR_OF_EXIT_CODE and said is not None:
        return ERROR_OF_EXIT_CODE[code](_LAST_WORD.sub("", said))
    told = " / ".join(line.strip() for line in last[-5:] if line.strip())
    return LostRankError(f"the ranks have ended with code {code}; their last lines: {told or 'none'}")
