"""A rank that computes or reads wrongly is found by the audit and named; nothing wrong gets the result's name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import h5py
import pytest

from pyramidai_mpi.synth.slide import write_slide
from pyramidai_mpi.synth.spec import SynthSpec
from pyramidai_mpi.testing.launch import REPOSITORY, mpirun
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.packages import write_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.testing.launch import Finished

pytestmark = pytest.mark.mpi

LYING = REPOSITORY / "tests" / "faults" / "run_lying.py"
FLIPPING = REPOSITORY / "tests" / "faults" / "run_flipping.py"
ONE_IN = 6
ALL_LEVELS = ("--threshold", "1=0", "--threshold", "2=0")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three slides of some dozens of tiles."""
    folder = tmp_path_factory.mktemp("slides")
    paths = [folder / f"s{n}.tif" for n in range(3)]
    for n, path in enumerate(paths):
        write_slide(SynthSpec(2100, 1500, seed=n, tumor_share=0.2), path)
    return paths


@pytest.fixture(scope="module")
def honest(slides: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the first slide, without an audit, on one rank."""
    path = tmp_path_factory.mktemp("honest") / "out.h5"
    assert pyramidai(slides[0], "-o", path, *ALL_LEVELS).returncode == 0
    return digest_of(path)


def lying(ranks: int, liar: int, what: str, *words: object, one_in: int = ONE_IN) -> Finished:
    return mpirun(ranks, [LYING, str(liar), what, str(one_in), "1", *map(str, words)], timeout=120)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_an_audit_changes_nothing_and_is_told(slides: list[Path], honest: str, ranks: int, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    job = pyramidai(slides[0], "-o", out, "--audit", "40", *ALL_LEVELS, ranks=ranks)
    assert job.returncode == 0, job.stderr
    assert digest_of(out) == honest
    with h5py.File(out) as file:
        attributes = file["execution"].attrs
        n_audited, n = int(attributes["tiles_audited"]), sum(len(level["index"]) for level in file["levels"].values())
        assert attributes["audit_percent"] == 40
    assert 0.2 * n < n_audited < 0.6 * n
    assert f"audit: {n_audited} of {n} tiles were computed again, to the same bits" in job.stderr


def test_as_many_tiles_are_audited_on_any_number_of_ranks(slides: list[Path], tmp_path: Path) -> None:
    counts = []
    for ranks in (1, 3):
        out = tmp_path / f"{ranks}.h5"
        job = pyramidai(slides[0], "-o", out, "--audit", "30", *ALL_LEVELS, ranks=ranks)
        assert job.returncode == 0, job.stderr
        with h5py.File(out) as file:
            counts.append(int(file["execution"].attrs["tiles_audited"]))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(("ranks", "what"), [(1, "engine"), (2, "pixels"), (3, "engine")])
def test_a_rank_that_lies_is_named_nothing_is_written_and_resume_puts_it_right(
    slides: list[Path], honest: str, ranks: int, what: str, tmp_path: Path
) -> None:
    out, liar = tmp_path / "out.h5", ranks - 1
    job = lying(ranks, liar, what, slides[0], "-o", out, "--audit", "100", *ALL_LEVELS)
    assert job.returncode == 74, job.stderr
    assert not out.exists()
    (line,) = [line for line in job.stderr.splitlines() if "error:" in line]
    assert re.search(r"s0\.tif: audit: level \d, column \d+, row \d+: rank \d \(host \S+\).* found decision", line)
    blame = "has read other pixels" if what == "pixels" else "has computed otherwise of the same pixels"
    assert re.search(rf"rank {liar} \(host \S+\) {blame}", line)
    assert f"what rank {liar} did is set aside" in line
    (aside,) = (tmp_path / "out.h5.journal").glob("*.aside")
    assert aside.name.endswith(f"-{liar:05d}.tiles.aside")
    again = pyramidai(slides[0], "-o", out, "--audit", "100", "--resume", *ALL_LEVELS, ranks=2)
    assert again.returncode == 0, again.stderr
    assert digest_of(out) == honest
    with h5py.File(out) as file:  # what the journal gave back, too
        n = sum(len(level["index"]) for level in file["levels"].values())
        assert file["execution"].attrs["tiles_audited"] == n
    assert not (tmp_path / "out.h5.journal").exists()


def test_a_feature_that_is_wrong_by_its_last_bit_is_found(slides: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    job = lying(2, 1, "features", slides[0], "-o", out, "--audit", "100", "--features", *ALL_LEVELS)
    assert job.returncode == 74, job.stderr
    assert re.search(r"rank 1 \(host \S+\) has computed other features of the same pixels", job.stderr)
    assert not out.exists()


@pytest.mark.parametrize(("ranks", "beside"), [(1, False), (2, True)], ids=["alone", "beside a classifier"])
def test_features_of_encoders_are_audited(slides: list[Path], ranks: int, beside: bool, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder", side=224, batch=8)
    words = ["--encoder", encoder] if beside else ["--model", encoder]
    out, plain = tmp_path / "out.h5", tmp_path / "plain.h5"
    job = pyramidai(slides[0], "-o", out, "--audit", "50", *words, ranks=ranks)
    assert job.returncode == 0, job.stderr
    assert pyramidai(slides[0], "-o", plain, *words).returncode == 0
    assert digest_of(out) == digest_of(plain)
    bad = lying(ranks, ranks - 1, "features", slides[0], "-o", tmp_path / "bad.h5", "--audit", "100", *words)
    assert bad.returncode == 74, bad.stderr
    assert re.search(rf"rank {ranks - 1} \(host \S+\) has computed other features of the same pixels", bad.stderr)


def test_without_an_audit_the_same_lie_is_believed(slides: list[Path], honest: str, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    assert lying(2, 1, "engine", slides[0], "-o", out, *ALL_LEVELS).returncode == 0
    assert digest_of(out) != honest


def test_a_rank_that_repeats_its_lies_is_outvoted_by_two_others(slides: list[Path], tmp_path: Path) -> None:
    job = lying(3, 1, "always-engine", slides[0], "-o", tmp_path / "out.h5", "--audit", "100", *ALL_LEVELS)
    assert job.returncode == 74
    assert "what rank 1 did is set aside" in job.stderr


def test_of_two_ranks_that_each_repeat_themselves_both_are_suspects(slides: list[Path], tmp_path: Path) -> None:
    job = lying(2, 1, "always-engine", slides[0], "-o", tmp_path / "out.h5", "--audit", "100", *ALL_LEVELS)
    assert job.returncode == 74
    assert "what ranks 0, 1 did is set aside" in job.stderr
    assert not (tmp_path / "out.h5").exists()


def test_in_a_cohort_the_run_ends_and_resume_finishes_every_slide(slides: list[Path], tmp_path: Path) -> None:
    words = [*slides, "--results-dir", tmp_path, "--audit", "100", *ALL_LEVELS]
    job = lying(3, 2, "engine", *words)
    assert job.returncode == 74, job.stderr
    assert "what rank 2 did is set aside" in job.stderr
    assert "results of other slides that this run has finished may hold tiles of it" in job.stderr
    assert list((tmp_path / "pyramidai.journal").glob("*.aside"))
    again = pyramidai(*words, "--resume", ranks=3)
    assert again.returncode == 0, again.stderr
    assert len(list(tmp_path.glob("*.h5"))) == 3
    assert not list(tmp_path.glob("*.journal"))
    alone = tmp_path / "alone"
    alone.mkdir()
    assert pyramidai(slides[1], "-o", alone / "s1.h5", *ALL_LEVELS).returncode == 0
    assert digest_of(tmp_path / "s1.h5") == digest_of(alone / "s1.h5")


@pytest.mark.parametrize("mode", ["window", "shared", "adaptive"])
def test_blocks_of_windows_are_audited_too(slides: list[Path], mode: str, tmp_path: Path) -> None:
    model = () if mode != "shared" else ("--model", "small-valid")
    words = [slides[0], "--stride", "112", "--stride-mode", mode, *model]
    out, plain = tmp_path / "out.h5", tmp_path / "plain.h5"
    job = pyramidai(*words, "-o", out, "--audit", "50", ranks=2)
    assert job.returncode == 0, job.stderr
    assert "to the same bits" in job.stderr
    assert pyramidai(*words, "-o", plain).returncode == 0
    assert digest_of(out) == digest_of(plain)
    if mode != "shared":
        bad = lying(2, 1, "engine", *words, "-o", tmp_path / "bad.h5", "--audit", "100", one_in=40)
        assert bad.returncode == 74, bad.stderr


def test_parts_are_audited_and_their_whole_says_how_many_tiles_were(slides: list[Path], tmp_path: Path) -> None:
    n = 0
    for part in ("1/2", "2/2"):
        job = pyramidai(slides[0], "-o", tmp_path / "out.h5", "--audit", "50", "--part", part, *ALL_LEVELS, ranks=2)
        assert job.returncode == 0, job.stderr
    for path in tmp_path.glob("*.h5"):
        with h5py.File(path) as file:
            n += int(file["execution"].attrs["tiles_audited"])
    parts = sorted(tmp_path.glob("*.h5"))
    assert pyramidai("merge", *parts, "-o", tmp_path / "whole.h5").returncode == 0
    with h5py.File(tmp_path / "whole.h5") as file:
        assert int(file["execution"].attrs["tiles_audited"]) == n > 0


@pytest.mark.parametrize("rank", [0, 1])
def test_told_to_stop_while_only_audits_are_left_it_stops_and_resume_audits_the_rest(
    slides: list[Path], honest: str, rank: int, tmp_path: Path
) -> None:
    script = REPOSITORY / "tests" / "faults" / "run_stopped_audit.py"
    out = tmp_path / "out.h5"
    words = [str(slides[0]), "-o", str(out), "--audit", "100", *ALL_LEVELS]
    job = mpirun(2, [script, str(rank), *words], timeout=120)
    assert job.returncode == 75, job.stderr
    assert "SIGTERM was received" in job.stderr or "another rank was told to stop" in job.stderr
    assert not out.exists()
    again = pyramidai(*words, "--resume", ranks=2)
    assert again.returncode == 0, again.stderr
    assert digest_of(out) == honest


@pytest.mark.parametrize("percent", ["-1", "101", "nan"])
def test_a_share_that_cannot_be_is_refused(slides: list[Path], percent: str, tmp_path: Path) -> None:
    job = pyramidai(slides[0], "-o", tmp_path / "out.h5", "--audit", percent)
    assert job.returncode == 64
    assert "--audit" in job.stderr


@pytest.mark.parametrize(("call", "bit"), [(1, 40), (4, 1001), (9, 77)])
def test_a_bit_that_flips_in_a_message_ends_the_run_and_resume_goes_on(
    slides: list[Path], honest: str, call: int, bit: int, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    words = [str(slides[0]), "-o", str(out), *ALL_LEVELS]
    job = mpirun(3, [FLIPPING, "0", str(call), str(bit), *words], timeout=120)
    assert job.returncode == 74, job.stderr
    assert re.search(r"a message of \d+ bytes from rank [12] has arrived otherwise than it was sent", job.stderr)
    assert "Traceback" not in job.stderr
    assert not out.exists()
    again = pyramidai(*words, "--resume", ranks=2)
    assert again.returncode == 0, again.stderr
    assert digest_of(out) == honest


CHANGED = """
import sys
from pathlib import Path
from pyramidai_mpi.cli.main import main
from pyramidai_mpi.run import auditing

plain = auditing._loaded_anew

def change_first(*arguments):
    with Path(sys.argv[1], "level0.onnx").open("ab") as file:
        file.write(b"x")
    return plain(*arguments)

auditing._loaded_anew = change_first
main(sys.argv[2:])
"""


def test_a_network_that_is_changed_while_it_is_audited_is_named_and_no_rank(slides: list[Path], tmp_path: Path) -> None:
    model, out = write_encoder(tmp_path / "encoder", side=224), tmp_path / "out.h5"
    words = [str(slides[0]), "--model", str(model), "-o", str(out), "--audit", "100", "--no-progress"]
    job = mpirun(1, ["-c", CHANGED, str(model), *words])
    assert job.returncode == 65, job.stderr
    assert "level0.onnx: was changed since the run began" in job.stderr
    assert "audit:" not in job.stderr
    assert not out.exists()
    assert list((tmp_path / "out.h5.journal").glob("*.aside")) == []
