"""Options of a function: its parameters that have a default, given by name from outside."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from emastudy.errors import InputError


def defaults(function: Callable[..., object]) -> dict[str, Any]:
    """The options of a function or class with their default values, in the signature's order."""
    return dict(_defaults(function))


def required(function: Callable[..., object]) -> list[str]:
    """The parameters without a default that can be given by name."""
    parameters = inspect.signature(function).parameters.values()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.default is p.empty and p.kind in by_name]


def check(owner: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that their owner, "head 'ema'" for instance, does not have."""
    known = sorted(known)
    unknown = ", ".join(repr(name) for name in names if name not in known)
    if unknown:
        raise InputError(f"{owner} has no option {unknown}; it has {', '.join(known) or 'none'}")


# Type → test of a value, and what is expected, in words.
_TYPES: dict[object, tuple[Callable[[object], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (lambda v: isinstance(v, Integral) and not isinstance(v, bool), "a whole number"),
    float: (lambda v: isinstance(v, Real) and not isinstance(v, bool), "a number"),
    str: (lambda value: isinstance(value, str), "a name"),
    str | Path: (lambda value: isinstance(value, str | Path), "a path"),
    Sequence[str] | None: (
        lambda value: value is None or _is_list_of_names(value),
        "a list of names such as [cat, dog] (quote those that are numbers or yes, no, on, off)",
    ),
}


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def check_types(owner: str, given: Mapping[str, object], function: Callable[..., object]) -> None:
    """Refuse options of another type than a function or class declares.

    Options that it does not have, and types that are not known here, pass.
    """
    declared = types(function)
    for name, value in given.items():
        fits, expected = _TYPES.get(declared.get(name), (None, ""))
        if fits and not fits(value):
            raise InputError(f"{owner}: {name} is {value!r}; expected {expected}")


def sparse(given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from their defaults: stating a default says nothing.

    Sequences are lists, as they are in files.
    """
    plain, defaults = (
        {k: list(value) if isinstance(value, tuple) else value for k, value in options.items()}
        for options in (given, known)
    )
    return {k: value for k, value in plain.items() if k not in defaults or value != defaults[k]}


def as_floats(given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Whole numbers as floats where the default is one, for 2 and 2.0 are the same value."""
    return {
        name: float(value) if type(value) is int and type(known.get(name)) is float else value
        for name, value in given.items()
    }


def parse(pairs: Iterable[str]) -> dict[str, Any]:
    """Options from NAME=VALUE texts; a value is read as YAML, so 3 is a number, true a truth value.

    Raises:
        InputError: A text of another form.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"{pair!r} is not of the form NAME=VALUE")
        value = yaml.safe_load(text)
        # YAML 1.1, which this is, takes 1e-1 for a word.
        if isinstance(value, str) and re.fullmatch(r"[-+]?\d+\.?\d*[eE][-+]?\d+", value):
            value = float(value)
        values[name] = value
    return values


@functools.cache  # reading a signature takes long, and every run that is loaded asks for some
def _defaults(function: Callable[..., object]) -> Mapping[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


@functools.cache
def types(function: Callable[..., object]) -> Mapping[str, object]:
    """The types that a function, or a class' constructor, declares; none if one is unknown."""
    made = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    try:
        return get_type_hints(made)
    except NameError:  # a type that somebody imports for type checkers alone
        return {}
