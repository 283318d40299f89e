"""Errors that the package raises on purpose."""

import inspect

import pytest

from emastudy import errors
from emastudy.errors import EmastudyError, InputError, bug_report, require


def test_all_errors_have_one_base_and_are_a_built_in_error_too():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    kinds = [kind for kind in kinds if issubclass(kind, Exception) and kind is not EmastudyError]
    assert len(kinds) >= 8
    for kind in kinds:
        assert issubclass(kind, EmastudyError), kind
        assert kind.__bases__[1].__module__ == "builtins", kind


def test_what_is_required_names_field_value_and_range():
    require(True, "size", 3, "an odd number")
    with pytest.raises(InputError, match=r"^size is '4'; expected an odd number$"):
        require(False, "size", "4", "an odd number")


def test_a_bug_report_says_what_ran_and_where():
    first, second = bug_report("emastudy train scenes").splitlines()
    assert "this is a bug in emastudy" in first
    assert "torch" in first
    assert "'emastudy train scenes'" in second
