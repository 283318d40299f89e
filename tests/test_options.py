"""Options given by name."""

import pytest

from emastudy import options
from emastudy.errors import InputError


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


def test_a_stated_default_says_nothing():
    known = options.defaults(function)
    assert options.sparse({"size": 3, "names": ("a",)}, known) == {"names": ("a",)}


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
