"""Options given by name."""

import inspect
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import pytest

from emastudy import options
from emastudy.errors import InputError
from emastudy.options import PositiveInt, Probability, Range


def function(x, *, size=3, names=("a", "b")):
    """Something with options."""


def test_options_are_the_parameters_with_a_default():
    known = options.defaults(function)
    assert known == {"size": 3, "names": ("a", "b")}
    known["size"] = 4  # one's own copy
    assert options.defaults(function)["size"] == 3


def test_unknown_options_are_named_with_those_that_exist():
    options.check("function", {"size": 1}, options.defaults(function))
    with pytest.raises(InputError, match="^function has no option 'b', 'c'; it has names, size$"):
        options.check("function", ["b", "size", "c"], options.defaults(function))
    with pytest.raises(InputError, match="it has none$"):
        options.check("function", ["b"], {})


def typed(count: int = 3, rate: float = 0.1, deep: bool = False, kind: Literal["a"] = "a"):
    """Something with options of declared types."""


@pytest.mark.parametrize(
    "given", [{"count": 4, "rate": 1, "deep": True, "kind": "a"}, {"rate": 1e-1, "other": 3}]
)
def test_values_of_the_declared_type_pass(given):
    options.check_types("function", given, typed)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 4.0}, "function: count is 4.0; expected a whole number"),
        ({"count": True}, "count is True; expected a whole number"),
        ({"rate": "0.1x"}, "rate is '0.1x'; expected a finite number"),
        ({"deep": 1}, "deep is 1; expected true or false"),
    ],
)
def test_a_value_of_another_type_is_named_with_the_type(given, message):
    with pytest.raises(InputError, match=message):
        options.check_types("function", given, typed)


def ranged(
    count: PositiveInt,
    rate: Annotated[float, Range(above=0, most=10**6)] = 0.1,
    share: Probability = 0.5,
    places: Sequence[PositiveInt] = (),
    kind: Literal["a", "b"] = "a",
):
    """Something whose options have ranges."""
    return count


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "^count is 0; expected a whole number ≥ 1$"),
        ({"count": "8"}, "^count is '8'; expected a whole number ≥ 1$"),
        ({"rate": math.inf}, "^rate is inf; expected a finite number > 0 and ≤ 1,000,000$"),
        ({"rate": math.nan}, "^rate is nan"),
        ({"share": 2}, "^share is 2; expected a finite number ≥ 0 and ≤ 1$"),
        ({"places": (1, 0)}, r"^places is \(1, 0\); expected a list, each .* whole number ≥ 1$"),
        ({"places": 3}, "^places is 3; expected a list"),
        ({"kind": "c"}, "^kind is 'c'; expected one of a, b$"),
    ],
)
def test_what_a_function_is_called_with_is_held_against_its_annotations(given, message):
    function = options.checked(ranged)
    assert function(1) == function(count=1, rate=1, share=0, places=[2], kind="b") == 1
    assert inspect.signature(function) == inspect.signature(ranged)
    with pytest.raises(InputError, match=message):
        function(**{"count": 1, **given})


def test_plain_numbers_are_finite():
    for value in (math.nan, math.inf):
        with pytest.raises(InputError, match="rate is .*; expected a finite number$"):
            options.check_types("", {"rate": value}, typed)


def test_a_stated_default_says_nothing():
    known = options.defaults(function)
    assert options.sparse({"size": 3, "names": ("a",)}, known) == {"names": ["a"]}


@pytest.mark.parametrize("windows", [[1, 2], (1, 2)])
def test_a_list_says_what_a_tuple_does(windows):
    assert options.sparse({"windows": windows}, {"windows": (1, 2)}) == {}
    assert options.sparse({"windows": windows}, {"windows": (2,)}) == {"windows": [1, 2]}


def test_values_are_read_as_yaml_and_numbers_with_an_exponent_as_numbers():
    pairs = ["a=1", "b=true", "c=[x, y]", "d=1e-1", "e=2.E3", "f=x=y", "g=1e", "h="]
    assert options.parse(pairs) == {
        "a": 1,
        "b": True,
        "c": ["x", "y"],
        "d": 0.1,
        "e": 2000.0,
        "f": "x=y",
        "g": "1e",
        "h": None,
    }
    with pytest.raises(InputError, match="'size' is not of the form NAME=VALUE"):
        options.parse(["size"])
