"""A process that waits for others ends when they have, without anybody's help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.process.beats import TOKEN_BYTES, Beats, own_socket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# a process of number 1 of two, or alone; it waits for ever, in the way that is given
WATCHED = f"""
import ctypes, os, sys, threading, time
from pyramidai_mpi.process.beats import Beats, own_socket
from pyramidai_mpi.process.watch import Limits, Watch
usual = dict(turn=0.1, beat=0.2, silence=1.0, silence_of_survivors=1e9, start=1.0, standstill=0.5, grace=1, slowness=0)
limits = Limits(**(usual | {{changes}}))
watch = Watch("rank 1, host n1", survives={{survives}}, limits=limits)
if {{port}}:
    own = own_socket(here_only=True)
    beats = Beats(1, [[("127.0.0.1", {{port}})], [own.getsockname()]], own, bytes({TOKEN_BYTES}))
    beats.meet(60)
    watch.over(beats)
print(os.getpid(), flush=True)
{{wait}}
"""
FOR_EVER = "threading.Event().wait(100)"


class Other:
    """Process 0, which is this one."""

    def __init__(self) -> None:
        self._own = own_socket(here_only=True)
        self.port = self._own.getsockname()[1]

    def meets(self, process: subprocess.Popen[str]) -> Beats:
        """Wait for the first sign of the other."""
        while True:
            assert process.poll() is None
            try:
                _, address = self._own.recvfrom(1000)
                break
            except BlockingIOError:
                time.sleep(0.01)
        beats = Beats(0, [[self._own.getsockname()], [address]], self._own, bytes(TOKEN_BYTES))
        beats.send()
        return beats


@pytest.fixture
def other() -> Iterator[Other]:
    one = Other()
    yield one
    one._own.close()


def watched(
    wait: str = FOR_EVER, *, port: int = 0, survives: bool = False, under: Sequence[str] = (), **changes: float
) -> subprocess.Popen[str]:
    program = WATCHED.format(wait=wait, port=port, survives=survives, changes=changes)
    command = [*under, sys.executable, "-c", program]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_it_ends_when_nothing_is_heard_of_another(other: Other) -> None:
    process = watched(port=other.port)
    other.meets(process)
    code, said = end_of(process)
    assert code == 70
    assert said.startswith("pyramidai: error: nothing was heard of rank 0 for 1 s, so it died or stands still; ")
    assert said.endswith(" (rank 1, host n1)\n")
    assert said.count("\n") == 1


def test_it_ends_without_a_word_when_another_says_so(other: Other) -> None:
    process = watched(port=other.port, silence=1e9)
    other.meets(process).end_all()
    assert end_of(process) == (70, "")


def test_as_long_as_there_are_signs_it_goes_on(other: Other) -> None:
    process = watched("time.sleep(3); watch.end()", port=other.port)
    beats = other.meets(process)
    while process.poll() is None:
        beats.send()
        time.sleep(0.1)
    assert end_of(process) == (0, "")
    beats.receive()
    beats.count(5.0)
    assert beats.most_silent() == (-1, 0.0)  # it has said farewell


def test_where_ranks_outlive_each_other_it_is_more_patient(other: Other) -> None:
    process = watched("time.sleep(3); watch.end()", port=other.port, survives=True)
    other.meets(process)
    assert end_of(process) == (0, "")


def test_it_ends_when_not_all_have_met() -> None:
    code, said = end_of(watched(f"watch.mpi_has_started(); {FOR_EVER}"))
    assert code == 70
    assert "the ranks have not all started within 1 s: one has died" in said


def test_until_all_have_met_it_is_as_patient_as_its_own_start_was_slow() -> None:
    wait = "time.sleep(2); print(watch._start_s > 1e6 < watch._standstill_s); watch.end()"
    process = watched(f"watch.mpi_has_started(); {wait}", slowness=1e9)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "True" in said


def test_it_ends_when_the_process_that_has_started_it_is_gone() -> None:
    between = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]).wait()"
    program = WATCHED.format(wait=FOR_EVER, port=0, survives=False, changes={})
    with subprocess.Popen(
        [sys.executable, "-c", between, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline())
        parent.kill()
        _, said = parent.communicate(timeout=60)  # until the one that is left has let go of the streams
    assert "the process that has started this one is gone" in said


def test_it_ends_when_a_call_keeps_the_interpreter_and_shows_which() -> None:
    code, said = end_of(watched("ctypes.PyDLL(None).sleep(50)"))
    assert code == -signal.SIGALRM
    assert 'File "<string>", line' in said


def test_whoever_has_started_it_may_have_its_signal_ignored_and_held_back() -> None:
    deaf = "import os, signal, sys; signal.signal(14, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, {14}); "
    under = [sys.executable, "-c", f"{deaf}os.execv(sys.argv[1], sys.argv[1:])"]
    assert end_of(watched("ctypes.PyDLL(None).sleep(50)", under=under))[0] == -signal.SIGALRM


def test_where_there_is_no_socket_it_goes_on() -> None:
    wait = "watch.mpi_has_started(); watch.over(None); time.sleep(2.5); watch.end()"
    assert end_of(watched(wait)) == (0, "")


def test_a_job_that_was_suspended_as_a_whole_goes_on() -> None:
    process = watched("sys.stdin.readline(); watch.end()", standstill=0.5, grace=10)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    time.sleep(2.0)  # longer than it may stand still by itself
    os.kill(pid, signal.SIGCONT)
    code, said = end_of(process)
    assert (code, said) == (0, "")
