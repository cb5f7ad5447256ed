"""How long a job takes to be gone when one of its processes dies, at any moment.

    python -m bench.faults.one_dies [--ranks 128] [--deaths 20] [--seed 1] [--victims rank,0,launcher]
        [--stages start,meeting,opening,running,writing,ending,finalising] [--how kill|stop] [--unnoticed] [--limit 150]

Ranks sleep as long as a tile would take, so that two cores carry many. At a stage, drawn by the seed, a victim kills
itself or its launcher (kill -9), or stands still (SIGSTOP). Seconds go from there to the end of the last process of the
job, children and launcher among them; what stands still does not count. With --unnoticed the launcher is stopped just
before the death, which stands for all launchers that do not notice one.

Exit code 1 when a job was not gone within --limit.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np

from bench.command_line import command_line

ORDER = "PYRAMIDAI_BENCH_DEATH"
STAGES = {
    "start": "",
    "meeting": "pyramidai_mpi.cli.session,_meet",
    "opening": "pyramidai_mpi.run.run,open_by_all",
    "running": "pyramidai_mpi.analyses.classify,SlideClassifier.look",
    "writing": "pyramidai_mpi.run.run,write_result",
    "ending": "pyramidai_mpi.cli.session,_leave_together",
    "finalising": "pyramidai_mpi.cli.main,_leave_mpi_in_time",
}
"""Where the victim dies: at the call of a function; at first, before it has loaded anything."""
VICTIMS = ("rank", "0", "launcher")
TILE_S = 0.1
_LAUNCHERS = ("mpirun", "mpiexec", "mpiexec.hydra", "hydra_pmi_proxy", "prterun", "prted")
_POLL_S = 0.1
_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Death:
    """One that is to come.

    Attributes
    ----------
    victim
        Of `VICTIMS`.
    rank
        Who dies, or kills the launcher.
    stage
        Of `STAGES`.
    how
        ``kill`` or ``stop``.
    unnoticed
        Whether the launcher is stopped before.
    folder
        Where the time and the victim's process number are written.
    limit_s
        In place of the limits of two minutes; 0 leaves them.
    """

    victim: str
    rank: int
    stage: str
    how: str
    unnoticed: bool
    folder: str
    limit_s: float = 0.0


def as_rank(arguments: list[str]) -> None:
    """What each rank runs: the program, with slow tiles and a death to come."""
    death = Death(**json.loads(os.environ[ORDER]))
    names = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
    own = next(os.environ[name] for name in names if name in os.environ)
    dies, stage = int(own) == death.rank, death.stage
    if death.unnoticed:  # a launcher that stands still passes on nothing
        with Path(death.folder, f"stderr-{own}").open("w") as stderr:
            os.dup2(stderr.fileno(), sys.stderr.fileno())

    def die() -> None:
        launchers = _launchers()
        stopped = launchers if death.unnoticed else []
        victim = launchers[-1] if death.victim == "launcher" else os.getpid()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        Path(death.folder, "still").write_text(json.dumps([*stopped, *([victim] if death.how == "stop" else [])]))
        Path(death.folder, "died").write_text(repr(time.time()))
        os.kill(victim, signal.SIGKILL if death.how == "kill" else signal.SIGSTOP)

    if dies and stage == "start":
        time.sleep(float(np.random.default_rng(int(own)).uniform(0, 1)))
        die()
    slow_down()
    if death.limit_s:
        shorten(death.limit_s)
    if dies and stage != "start":
        plant(STAGES[stage], die)
    from pyramidai_mpi.cli.main import main

    main(arguments)


def slow_down() -> None:
    """Let each tile take its time, asleep."""
    from pyramidai_mpi.analyses.classify import SlideClassifier

    real = SlideClassifier.look

    def slow(self: SlideClassifier, tiles: Any, *rest: Any) -> Any:
        time.sleep(TILE_S * len(tiles))
        return real(self, tiles, *rest)

    SlideClassifier.look = slow  # type: ignore[method-assign]


def shorten(limit_s: float) -> None:
    """Let the ranks be less patient with each other."""
    from pyramidai_mpi.cli import main
    from pyramidai_mpi.process import watch

    seconds = dict.fromkeys(("silence", "start", "standstill"), limit_s)
    watch.Limits = partial(watch.Limits, turn=0.2, beat=0.5, grace=2, slowness=0.0, **seconds)  # type: ignore[misc, assignment]
    main._MOST_FINALISING_S = limit_s


def plant(where: str, action: Any) -> None:
    """Do something at the first call of a function."""
    module_name, dotted = where.split(",")
    *owners, name = dotted.split(".")
    owner = reduce(getattr, owners, importlib.import_module(module_name))
    real, is_over = getattr(owner, name), False

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal is_over
        if not is_over:
            is_over = True
            action()
        return real(*arguments, **options)

    setattr(owner, name, deadly)


def _launchers() -> list[int]:
    """Process numbers of the launcher's processes over this one, the eldest last."""
    found, pid = [], os.getppid()
    while pid > 1:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        if name in _LAUNCHERS:
            found.append(pid)
        pid = int(rest.split()[1])
    return found


def gone_after(
    death: Death, ranks: int, slide: Path, patience_s: float = _PATIENCE_S
) -> tuple[float | None, int | None, list[str]]:
    """Seconds until the job was gone, None where the death did not come.

    And the launcher's exit code, None where it stands still, and the program's words.
    """
    from pyramidai_mpi.testing.launch import processes_of, started

    folder = Path(death.folder)
    for path in (*folder.glob("stderr-*"), folder / "still", folder / "died"):
        path.unlink(missing_ok=True)
    output = ["-o", folder / "out.h5", "--overwrite", "--no-progress"]
    words = ["-m", "bench.faults.one_dies", "as-rank", slide, *output, "--batch-size", "1"]
    with started(ranks, words, {ORDER: json.dumps(asdict(death))}) as job:
        end, code, still = time.monotonic() + patience_s, None, []
        while time.monotonic() < end:
            still = json.loads((folder / "still").read_text()) if (folder / "died").exists() else []
            # a process that is just being started shows no environment
            has_launcher_ended = job.launcher.poll() is not None or job.launcher.pid in still
            if has_launcher_ended and not set(processes_of(job.tag)) - set(still):
                break
            time.sleep(_POLL_S)
        now = time.time()
        code = job.launcher.poll()
        texts = [job.output(), *(path.read_text() for path in folder.glob("stderr-*"))]
        said = [line for text in texts for line in text.splitlines() if "pyramidai: " in line or "Traceback" in line]
    if not (folder / "died").exists():
        return None, code, said
    return now - float((folder / "died").read_text()), code, said


def main() -> int:
    """See the module."""
    parser = command_line(__doc__)
    parser.add_argument("--ranks", type=int, default=128)
    parser.add_argument("--deaths", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--victims", default=",".join(VICTIMS))
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--how", choices=("kill", "stop"), default="kill")
    parser.add_argument("--unnoticed", action="store_true", help="stop the launcher before")
    parser.add_argument("--limit", type=float, default=150.0, help="most seconds")
    options = parser.parse_args()
    from pyramidai_mpi.synth import SynthSpec, write_slide

    rng = np.random.default_rng(options.seed)
    stages, victims = options.stages.split(","), options.victims.split(",")
    seconds: dict[str, list[float]] = {stage: [] for stage in stages}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_slide(SynthSpec(6000, 5000, seed=4, tumor_share=0.3), folder / "slide.tif")
        for number in range(options.deaths):
            stage = stages[number % len(stages)]
            victim = victims[int(rng.integers(len(victims)))]
            rank = 0 if victim == "0" else int(rng.integers(options.ranks))
            death = Death(victim, rank, stage, options.how, options.unnoticed, name)
            took, code, said = gone_after(death, options.ranks, folder / "slide.tif")
            who = "launcher" if victim == "launcher" else f"rank {rank}"
            words = f"{len(said)} lines: {said[0]}" if said else ""
            print(f"{stage:10} {who:9} {'-' if took is None else f'{took:6.1f} s'}  code {code}  {words}", flush=True)
            if took is not None:
                seconds[stage].append(took)
    print(
        f"{options.ranks} ranks, {options.how}, {'unnoticed' if options.unnoticed else 'noticed'}, seed {options.seed}"
    )
    for stage, took_s in seconds.items():
        if took_s:
            print(f"{stage:10} {len(took_s):3} deaths: median {np.median(took_s):5.1f} s, longest {max(took_s):5.1f} s")
    return int(any(one > options.limit for took_s in seconds.values() for one in took_s))


if __name__ == "__main__":
    if sys.argv[1:2] == ["as-rank"]:
        as_rank(sys.argv[2:])
    else:
        sys.exit(main())
