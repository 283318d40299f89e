"""What findings ask of the records: numbers over seeds, with their tests."""

import itertools
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from emastudy.errors import InputError
from emastudy.study.claims import Evidence
from emastudy.study.recipes import REGIMES
from emastudy.study.statistics import (
    FEWEST,
    LEVEL,
    MARGIN,
    equivalence,
    mean_interval,
    mean_test,
)

Test = Literal["difference", "equivalence", ""]
Side = Mapping[str, Any]

# What a side says beside options of its head.
_APART = ("head", "learning_rate", "value")
# Fields of a config that a side may say as well.
_FIELDS = ("batch_size", "bn_momentum", "crop_size")
# Axes as readers call them; gradient regimes need none.
_AXES = {"num_iterations": "T", "num_bases": "K", "concentration": "λ"}
_SIGNS: dict[str, Callable[[Any, float], Any]] = {
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}
_CONDITION = re.compile(r"(\w+) (<|>|==) (-?\d+(?:\.\d+)?)")
_PICKS: dict[str, Callable[[Any], Any]] = {
    "": float,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "median": np.median,
}


@dataclass(frozen=True)
class Number:
    """One number that a query found."""

    value: float  #: Mean over seeds, or a count.
    low: float = math.nan  #: Lower end of its 95 % interval; NaN = it has none.
    high: float = math.nan  #: Upper end.
    seeds: int = 0  #: How many entered.
    case: str = ""  #: Which of the query's cases it is, in words; "" = there is one alone.
    signed: bool = False  #: Whether it is a difference, to be shown with its sign.
    unit: str = ""  #: Of a count, e.g. "of 5 seeds".
    #: "difference": from zero; "equivalence": within ±0.5 (TOST); "": no test.
    test: Test = ""
    p: float = math.nan  #: Of the test, by itself.
    corrected: float = math.nan  #: For the number of tests: by Holm's method, or a q-value.
    by_ledger: bool = False  #: Whether it is corrected with the ledger's verdicts.

    @property
    def holds(self) -> bool:
        """Whether the test decides, after the correction; two seeds decide nothing."""
        return self.corrected < LEVEL and self.seeds >= FEWEST

    @property
    def word(self) -> str:
        """What may be said of it: three words that stand apart."""
        if not self.holds:
            return "inconclusive"
        return f"equivalent within ±{MARGIN:g}" if self.test == "equivalence" else "decided"


@dataclass(frozen=True)
class Comparison:
    """Asks for the mean over seeds of something, or of its difference between runs, paired by seed.

    A side names runs: "head" (default "ema"), options of the head, "batch_size", "bn_momentum",
    "learning_rate" (as a multiple of the recipe's) and, where the sides differ in it, "value".
    """

    data: str  #: Profile whose records are asked.
    of: Side = field(default_factory=dict)  #: The runs.
    #: Those that are subtracted; none = the number itself, without a test.
    less: Side | None = None
    #: Axis → its values: a number for every combination. An axis is something that a side may say,
    #: or "at." and one of ``at``; it holds for sides that do not say it themselves, options of the
    #: head for EMA alone.
    each: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    measure: str = ""  #: Of ``measures.MEASURES``; "" = the record.
    #: Column; "NAME.first", ".last", ".median" or ".3" pick from a list.
    value: str = "miou"
    #: How scores were made, see ``measures.scores``; "=AXIS" is the case's own value.
    at: Mapping[str, Any] = field(default_factory=dict)
    images: int = 0  #: On how many images scores were made; 0 = the most that they were.
    #: What is tested: a difference from zero, or equivalence within ±0.5 (TOST).
    test: Literal["difference", "equivalence"] = "difference"
    seeds: int = 0  #: The fewest that there must be; 0 = as many as a verdict on the data needs.
    apart: bool = False  #: Whether its tests are corrected by themselves, since they are very many.
    decimals: int = 2  #: That are shown.

    @property
    def tested(self) -> bool:
        """Whether its numbers are differences, which are tested."""
        return self.less is not None

    def ask(self, source: Evidence) -> Iterator[Number]:
        """A number for each case, uncorrected.

        Raises:
            InputError: No runs, or too few, are what is asked for.
        """
        for case in _cases(self.each):
            found = self.values(source, self.of, case)
            if self.less is not None:
                found = (found - self.values(source, self.less, case)).dropna()
                if len(found) and not found.any():  # the same thing twice
                    continue
            _check_seeds(len(found), self.seeds or source.needed)
            number = Number(*mean_interval(found), len(found), _words(case), self.tested)
            if self.tested:
                p = mean_test(found) if self.test == "difference" else equivalence(found).p
                number = replace(number, test=self.test, p=p)
            yield number

    def values(self, source: Evidence, side: Side, case: Mapping[str, Any]) -> pd.Series:
        """One number a seed."""
        rows = self.runs(source, side, case)
        column, _, pick = str(side.get("value", self.value)).partition(".")
        if column not in rows:
            raise InputError(f"a {self.measure or 'record'} has no value {column!r}")
        how = _PICKS.get(pick) or operator.itemgetter(int(pick))
        return rows[column].map(how).astype(float)

    def runs(self, source: Evidence, side: Side, case: Mapping[str, Any]) -> pd.DataFrame:
        """The rows of those runs, one a seed."""
        head = side.get("head", case.get("head", "ema"))
        taken = {k: v for k, v in case.items() if head == "ema" or k in _APART or "." in k}
        said = {**taken, **side}
        of_run = {k: v for k, v in said.items() if k not in _APART and "." not in k}
        rows = source.select(
            self._rows(source, said, case),
            head,
            {k: v for k, v in of_run.items() if k not in _FIELDS},
            learning_rate=float(said.get("learning_rate", 1)),
            fields={k: v for k, v in of_run.items() if k in _FIELDS},
        )
        if rows.empty:
            stated = ", ".join(f"{name}={value}" for name, value in said.items())
            raise InputError(
                f"no {self.measure or 'record'} of {source.name} is of a run with "
                f"{stated or 'the usual options'}"
            )
        return rows

    def _rows(self, source: Evidence, said: Side, case: Mapping[str, Any]) -> pd.DataFrame:
        """What is asked of any run: the records, a measurement, or scores made in one way."""
        if not self.measure:
            return source.records
        if self.measure != "scores":
            return source.table(self.measure)
        given = {k.removeprefix("at."): v for k, v in said.items() if "." in k}
        at = {
            name: case.get(value[1:], value) if str(value).startswith("=") else value
            for name, value in {**self.at, **given}.items()
        }
        return source.scored(at, self.images)


def _cases(each: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*each.values()):
        yield dict(zip(each, values, strict=True))


def _words(case: Mapping[str, Any]) -> str:
    """A case as readers know it."""
    return ", ".join(
        REGIMES[value] if axis == "gradient" else f"{_AXES.get(axis, axis)} = {_plain(value)}"
        for axis, value in case.items()
    )


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_seeds(there: int, needed: int) -> None:
    if there < needed:
        raise InputError(f"{there} seeds are there of {needed} that it needs")


@dataclass(frozen=True)
class Best:
    """Asks with which value of an option runs that are alike else, seed included, score best.

    Fields as in :class:`Comparison`; the runs of all cases of ``each`` count together.
    """

    data: str
    best: Mapping[str, Sequence[Any]]  #: The option → its values.
    each: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: int = 0
    decimals: ClassVar[int] = 0
    tested: ClassVar[bool] = False

    def ask(self, source: Evidence) -> Iterator[Number]:
        """In how many of the runs each value is the best, where it is.

        Raises:
            InputError: No runs, or too few, are what is asked for.
        """
        ((option, values),) = self.best.items()
        ask, tables = Comparison(self.data).values, []
        for case in _cases(self.each):
            scores = {value: ask(source, {}, {**case, option: value}) for value in values}
            tables.append(pd.DataFrame(scores).dropna())
            _check_seeds(len(tables[-1]), self.seeds or source.needed)
        winners = pd.concat(tables).idxmax(axis=1)
        unit, seeds = f"of {len(winners)} runs", min(map(len, tables))
        for value, count in winners.value_counts().sort_index().items():
            yield Number(float(count), seeds=seeds, case=_words({option: value}), unit=unit)


@dataclass(frozen=True)
class Count:
    """Asks of how many entries of a measurement's lists something is true.

    Fields as in :class:`Comparison`; a condition is one column, <, > or ==, and a number. Lists of
    one run are as long as each other, and those of all runs of a case count together.
    """

    data: str
    measure: str
    count: str  #: What is counted, e.g. "growth < 1".
    among: str  #: Of which entries, e.g. "members > 1".
    each: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: int = 0
    decimals: ClassVar[int] = 0
    tested: ClassVar[bool] = False

    def ask(self, source: Evidence) -> Iterator[Number]:
        """For each case how many there are, and of how many.

        Raises:
            InputError: No runs, or too few, are what is asked for, or a condition is none.
        """
        ask = Comparison(self.data, measure=self.measure).runs
        for case in _cases(self.each):
            rows = ask(source, {}, case)
            _check_seeds(len(rows), self.seeds or source.needed)
            among = _holds(rows, self.among)
            count = int((among & _holds(rows, self.count)).sum())
            unit = f"of {among.sum()}"
            yield Number(float(count), seeds=len(rows), case=_words(case), unit=unit)


def _holds(rows: pd.DataFrame, condition: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Of which entries of a column of lists a condition is true, those of all rows in a line."""
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise InputError(f"{condition!r} is no condition; write one as 'growth < 1'")
    column, sign, number = match.groups()
    if column not in rows:
        raise InputError(f"the measurement has no value {column!r}")
    return np.asarray(_SIGNS[sign](np.concatenate(rows[column].tolist()), float(number)))
