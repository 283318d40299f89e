"""Options of a function: its parameters that have a default, given by name from outside.

Their types say what they may be, the range of a number included: ``dropout: Probability = 0.1``.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import yaml

from emastudy.errors import InputError, require

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """What a number may be, in its annotation: ``Annotated[float, Range(least=0, below=1)]``.

    Never infinite or NaN.
    """

    least: int | float = -math.inf
    most: int | float = math.inf
    above: int | float = -math.inf
    below: int | float = math.inf

    def __contains__(self, value: int | float) -> bool:
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        signs = {"≥": self.least, ">": self.above, "≤": self.most, "<": self.below}
        return " and ".join(f"{s} {bound:,}" for s, bound in signs.items() if math.isfinite(bound))


PositiveInt = Annotated[int, Range(least=1)]
NonNegativeInt = Annotated[int, Range(least=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(least=0)]
Probability = Annotated[float, Range(0, 1)]
#: What NumPy takes, and Accelerate passes on to it.
Seed = Annotated[int, Range(0, 2**32 - 1)]


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


def takes_any(function: Callable[..., object]) -> bool:
    """Whether a function or class takes options of any name, ``**options``."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


# Type → test of a value, and what is expected, in words.
Test = tuple[Callable[[Any], bool], str]
_TYPES: tuple[tuple[object, Test], ...] = (
    (bool, (lambda value: isinstance(value, bool), "true or false")),
    (str, (lambda value: isinstance(value, str), "a name")),
    (str | Path, (lambda value: isinstance(value, str | Path), "a path")),
    (
        Sequence[str] | None,
        (
            lambda value: value is None or _is_list_of_names(value),
            "a list of names such as [cat, dog] (quote those that are numbers or yes, no, on, off)",
        ),
    ),
)


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def check_types(owner: str, given: Mapping[str, object], function: Callable[..., object]) -> None:
    """Refuse options of another type, or out of the range, that a function or class declares.

    Options that it does not have, and types that are not known here, pass.

    Args:
        owner: Whose options they are, "head 'ema'" for instance, for the message; "" = no one's.
    """
    check_values(owner, given, types(function))


def check_values(owner: str, given: Mapping[str, object], declared: Mapping[str, object]) -> None:
    """:func:`check_types` against types by name."""
    for name, value in given.items():
        if test := _test(declared.get(name)):
            fits, expected = test
            require(fits(value), f"{owner}: {name}" if owner else name, value, expected)


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function, which then checks its arguments first, see :func:`check_types`."""
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        check_types("", {**dict(zip(names, args, strict=False)), **kwargs}, function)
        return function(*args, **kwargs)

    return call


@functools.cache
def _test(declared: object) -> Test | None:
    """How a declared type is tested; None where it is not."""
    kind, parts = get_origin(declared), get_args(declared)
    if kind is Annotated:
        ranges = [part for part in parts[1:] if isinstance(part, Range)]
        return _number(parts[0], ranges[0]) if ranges else _test(parts[0])
    if declared in (int, float):
        return _number(declared, Range())
    if kind is Literal:
        return (lambda value: value in parts), f"one of {', '.join(map(str, parts))}"
    if kind in (Sequence, list) or (kind is tuple and parts[1:] == (...,)):
        return _list(_test(parts[0]))
    return next((test for known, test in _TYPES if known == declared), None)


def _number(kind: object, allowed: Range) -> Test:
    whole = kind is int

    def fits(value: Any) -> bool:
        number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        return number and value in allowed

    return fits, f"{'a whole number' if whole else 'a finite number'} {allowed}".strip()


def _list(entry: Test | None) -> Test | None:
    if not entry:
        return None
    fits, expected = entry
    return (
        lambda value: isinstance(value, list | tuple) and all(map(fits, value)),
        f"a list, each entry {expected}",
    )


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
        return get_type_hints(made, include_extras=True)
    except (NameError, AttributeError):  # what is imported for type checkers alone, or not built
        return {}
