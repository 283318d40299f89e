"""Options of a function: its parameters that have a default, given by name from outside."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

from emastudy.errors import InputError


def defaults(function: Callable[..., object]) -> dict[str, Any]:
    """The options of a function or class with their default values, in the signature's order."""
    return dict(_defaults(function))


def check(owner: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that do not exist.

    Args:
        owner: Whose options they are, for the message, e.g. "head 'ema'".
        names: Names of the options given.
        known: Names of those that exist.

    Raises:
        InputError: Options that do not exist; the message names them and lists those that do.
    """
    known = sorted(known)
    unknown = [repr(name) for name in names if name not in known]
    if unknown:
        raise InputError(
            f"{owner} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
        )


def sparse(given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from their defaults: stating a default says nothing."""
    return {name: value for name, value in given.items() if value != known[name]}


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
