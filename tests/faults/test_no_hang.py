"""A rank dies or stands still, its launcher notices nothing, and yet no other waits for it for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.faults.one_dies import Death, gone_after
from pyramidai_mpi.synth import SynthSpec, write_slide

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

RANKS = 4
LIMIT_S = 5.0
HEARD_NOTHING = "nothing was heard of rank {} for 5 s, so it died or stands still; what was done is kept"


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "s.tif"
    write_slide(SynthSpec(1800, 1500, seed=4, tumor_share=0.3), path)
    return path


def words_after(stage: str, rank: int, slide: Path, tmp_path: Path, how: str = "kill", *, noticed: bool = False) -> str:
    """Let a rank die, see that all processes are gone by themselves, and return what they said."""
    death = Death("rank", rank, stage, how, not noticed, str(tmp_path), LIMIT_S)
    seconds, _, said = gone_after(death, RANKS, slide, patience_s=100)
    assert seconds is not None
    assert seconds < 100, "some are left"
    return "\n".join(said)


@pytest.mark.parametrize(("stage", "rank"), [("opening", 0), ("running", 2), ("writing", 0), ("ending", 3)])
def test_the_others_end_and_say_of_whom_they_heard_nothing(stage: str, rank: int, slide: Path, tmp_path: Path) -> None:
    said = words_after(stage, rank, slide, tmp_path)
    assert HEARD_NOTHING.format(rank) in said
    assert "Traceback" not in said


def test_the_others_end_when_one_has_died_before_they_have_met(slide: Path, tmp_path: Path) -> None:
    assert "the ranks have not all started within 5 s: one has died" in words_after("meeting", 1, slide, tmp_path)


def test_the_others_end_when_one_has_died_before_mpi_has_started(slide: Path, tmp_path: Path) -> None:
    words_after("start", 1, slide, tmp_path)


def test_the_others_end_when_one_dies_as_all_leave(slide: Path, tmp_path: Path) -> None:
    assert words_after("finalising", 1, slide, tmp_path) == ""
    assert (tmp_path / "out.h5").exists()


def test_a_rank_that_stands_still_ends_the_job_where_the_launcher_is_well(slide: Path, tmp_path: Path) -> None:
    assert HEARD_NOTHING.format(2) in words_after("opening", 2, slide, tmp_path, "stop", noticed=True)


def test_no_rank_outlives_its_launcher(slide: Path, tmp_path: Path) -> None:
    death = Death("launcher", 1, "opening", "kill", False, str(tmp_path), 1e6)
    seconds, _, _ = gone_after(death, RANKS, slide, patience_s=100)
    assert seconds is not None
    assert seconds < 100, "some are left"
