"""Errors as Python meets them: Python's own as well, in the words of Python, and nowhere within the program."""

from __future__ import annotations

import pickle

import pytest

from pyramidai_mpi import errors as public
from pyramidai_mpi.base import errors, python_errors
from pyramidai_mpi.base.python_errors import in_words_of_python, raised_in_python

BUILT_IN = {
    "UsageError": ValueError,
    "InputError": ValueError,
    "MissingInputError": FileNotFoundError,
    "OutputExistsError": FileExistsError,
    "StorageError": OSError,
    "StoppedError": RuntimeError,
    "LostRankError": RuntimeError,
    "InternalError": RuntimeError,
}


def within() -> list[type[errors.PyramidError]]:
    return [*errors.ERROR_OF_EXIT_CODE.values(), errors.LostRankError]


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_error_is_one_of_pythons_own_and_says_what_it_did(name):
    error = getattr(public, name)("slide.tif: is red")
    assert isinstance(error, BUILT_IN[name])
    assert isinstance(error, public.PyramidError)
    assert str(error) == "slide.tif: is red"
    assert errors.exit_code_of(error) == getattr(errors, name, errors.InputError).exit_code
    assert getattr(error, "errno", None) is None  # so that nothing takes it for what the system said
    assert errors.machine_failure(error) is None
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_all_are_there():
    assert set(public.__all__) == {*BUILT_IN, "PyramidError"}
    assert {cls.__name__ for cls in within()} <= BUILT_IN.keys()


def test_no_except_around_a_parser_or_a_disk_within_the_program_catches_one_of_its_errors():
    for cls in within():
        built_in = [base for base in cls.__mro__ if base.__module__ == "builtins"]
        assert built_in == [Exception, BaseException, object], cls


@pytest.mark.parametrize("cls", within(), ids=lambda cls: cls.__name__)
def test_what_is_raised_within_comes_out_as_its_public_class(cls):
    with pytest.raises(cls) as caught, raised_in_python():
        error = cls("give --mpp")
        error.agreed = True
        raise error
    assert type(caught.value) is getattr(public, cls.__name__)
    assert str(caught.value) == "give mpp"
    assert caught.value.agreed
    assert caught.value.__cause__ is None
    assert any(entry.name.startswith("test_what_is_raised") for entry in caught.traceback)


def test_a_cause_stays_and_a_public_error_passes():
    with pytest.raises(public.StorageError) as caught, raised_in_python():
        raise errors.StorageError("disk full") from OSError(28, "No space left on device")
    assert caught.value.__cause__.errno == 28
    inner = public.UsageError("the file --mpp.tif")
    with pytest.raises(public.UsageError) as caught, raised_in_python():
        raise inner
    assert caught.value is inner
    with pytest.raises(KeyError), raised_in_python():
        raise KeyError("other errors pass")


def test_only_an_input_that_is_not_there_is_a_file_that_was_not_found(tmp_path):
    there, missing = tmp_path / "there.tif", tmp_path / "missing.tif"
    there.touch()
    for path, message, expected in [
        (missing, f"{missing}: no such slide", public.MissingInputError),
        (there, f"{there}: no slide at all", public.InputError),
        (missing, f"{there}: no slide at all", public.InputError),
        (there / "below.tif", f"{there / 'below.tif'}: no such slide", public.MissingInputError),
    ]:
        with pytest.raises(errors.InputError) as caught, raised_in_python(path):
            raise errors.InputError(message)
        assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("said", "in_python"),
    [
        ("--mode fast: expected a or b", "mode='fast': expected a or b"),
        ("--batch-size 0: expected 1 to 4096", "batch_size=0: expected 1 to 4096"),
        ("--threshold 7=0.5: expected a level", "thresholds={7: 0.5}: expected a level"),
        ("--threshold names level 7", "thresholds names level 7"),
        ("a.h5: exists; use --overwrite to replace it or -o for another name",
         "a.h5: exists; use overwrite to replace it or output for another name"),
        ("--precision bfloat16: only with --backend openvino", "precision='bfloat16': only with backend='openvino'"),
        ("--tissue-limit: only with (--tissue od)", "tissue_limit: only with (tissue='od')"),
        ("kept; the same command with --resume goes on", "kept; the same call with resume=True goes on"),
        ("pre--mpp.tif: gone", "pre--mpp.tif: gone"),
        ("slide-o.tif: gone", "slide-o.tif: gone"),
    ],
)  # fmt: skip
def test_options_become_arguments(said, in_python):
    assert in_words_of_python(said) == in_python


def test_the_words_that_an_option_takes_are_those_of_the_command_line():
    from pyramidai_mpi.cli.run import command

    for name, words in python_errors._CHOICES.items():
        (option,) = (one for one in command.params if f"--{name}" in one.opts)
        taken = getattr(option.type, "choices", None)
        assert taken is None or tuple(taken) == tuple(words)
