"""What ``pyramidai merge`` refuses before it looks into any part."""

from __future__ import annotations

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.cli.main import run_command_line


def test_parts_of_two_divisions_of_one_file_are_not_joined_one_over_the_other(tmp_path, capsys):
    for name in ("a.part-1-of-2.h5", "a.part-2-of-2.h5", "a.part-1-of-4.h5"):
        (tmp_path / name).touch()
    (tmp_path / "a.h5").write_text("kept")
    assert run_command_line(["merge", str(tmp_path), "--overwrite"]) == ExitCode.SLIDES_FAILED
    said = capsys.readouterr().err
    assert said.count("there are parts of a.h5 of 2 divisions into parts; name those of one, or remove the others") == 2
    assert (tmp_path / "a.h5").read_text() == "kept"


def test_a_part_that_is_not_there_is_said_before_its_name_is_judged(tmp_path, capsys):
    assert run_command_line(["merge", str(tmp_path / "gone.h5")]) == ExitCode.BAD_INPUT
    assert "gone.h5: no such part, and no folder of parts; check the path" in capsys.readouterr().err
