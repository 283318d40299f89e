"""Verdicts: on one comparison (a part), on a claim by those behind it (a judgement).

All differences are turned so that positive is what the paper says. The rule, unless a claim says
otherwise, is the difference of mIoU paired by seed: supported if its whole 95 % interval lies above
zero, contradicted if it lies below, inconclusive if it holds zero; and not run with too few seeds.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import pandas as pd

from emastudy.study.claims.evidence import DATASETS, Evidence
from emastudy.study.recipes import REGIMES
from emastudy.study.statistics import LEVEL, equivalence, mean_interval, mean_test

Verdict = Literal["supported", "contradicted", "inconclusive", "not run"]

_NAN = float("nan")


@dataclass(frozen=True)
class Part:
    """One comparison or count behind a verdict."""

    what: str  #: What is compared, in words.
    verdict: Verdict  #: What this part alone says of the claim.
    #: The number. Differences are turned so that *positive* is what the paper claims.
    effect: float = _NAN
    #: Its 95 % interval (Student's, paired by seed, unless ``what`` says another); NaN where the
    #: number is a count or an identity.
    interval: tuple[float, float] = (_NAN, _NAN)
    seeds: int = 0  #: Number of seeds that entered, or that are there of those ``needed``.
    unit: str = "mIoU"
    signed: bool = True  #: Whether the effect is a difference, to be shown with its sign.
    #: Of the test behind the verdict, two-sided where the interval is of 95 %; NaN of counts.
    p: float = _NAN
    missing: str = ""  #: What is missing, where the verdict is "not run".
    needed: int = 0  #: How many seeds there must be; 0 = the part is no matter of seeds.
    decides: bool = True  #: Whether the rule asks for this part; others are shown beside.

    @property
    def number(self) -> str:
        """The effect with its unit and interval, e.g. ``+1.20 mIoU [+0.41, +1.99]``."""
        if pd.isna(self.effect):
            return self.missing
        text = f"{self._format(self.effect)} {self.unit}".rstrip()
        if pd.isna(self.interval[0]):
            return text
        return f"{text} [{', '.join(map(self._format, self.interval))}]"

    def _format(self, value: float) -> str:
        if not self.signed and float(value).is_integer():
            return f"{value:.0f}"
        if self.unit == "mIoU":
            return f"{value:+.2f}" if self.signed else f"{value:.2f}"
        return f"{value:+.3g}" if self.signed else f"{value:.3g}"


@dataclass(frozen=True)
class Judgement:
    """The verdict on one claim, on one data set, under one gradient regime."""

    parts: tuple[Part, ...]  #: The comparisons behind it.
    variant: str = ""  #: What else distinguishes it, e.g. the normalisation; "" = nothing.
    any_of: bool = False  #: Whether one supported part is enough.
    claim: str = ""
    dataset: str = ""  #: The profile; "" where no data set is needed.
    gradient: str = ""  #: The regime; "" where the claim is not about EMA networks' training.
    #: The parts by the rule as first written, where it was amended since; empty = the same.
    first: tuple[Part, ...] = ()
    #: ``p`` by Holm's method among the verdicts it is read with: see ``claims.judge``.
    adjusted: float = _NAN

    @property
    def verdict(self) -> Verdict:
        """What the parts say together, unless the correction for many verdicts takes it back."""
        return "inconclusive" if self.adjusted >= LEVEL else self.uncorrected

    @property
    def uncorrected(self) -> Verdict:
        """All parts that decide, taken together; each judgement by itself."""
        return self._together(self.parts)

    @property
    def original(self) -> Verdict:
        """The verdict by the rule as first written, uncorrected."""
        return self._together(self.first or self.parts)

    def _together(self, parts: Sequence[Part]) -> Verdict:
        seen = {part.verdict for part in parts if part.decides}
        order: tuple[Verdict, ...] = ("contradicted", "not run", "inconclusive", "supported")
        if self.any_of:
            order = ("supported", "not run", "inconclusive", "contradicted")
        return next(verdict for verdict in order if verdict in seen)

    @property
    def p(self) -> float:
        """The p-value of the uncorrected verdict.

        Where a verdict needs all of k tested parts it is their largest p; where one is enough (to
        contradict, or to support with ``any_of``) k times the smallest. 1 of an inconclusive one.
        NaN where there is no test: not run, or decided by a count, an identity or a cost, be it
        beside tests that say the same.
        """
        deciding = [part for part in self.parts if part.decides]
        tested = sum(not np.isnan(part.p) for part in deciding)
        verdict = self.uncorrected
        if not tested or verdict == "not run":
            return _NAN
        if verdict == "inconclusive":
            return 1.0
        same = [part.p for part in deciding if part.verdict == verdict]
        if self._one_is_enough:  # NaN stays NaN
            return float(np.minimum(1.0, tested * np.min(same)))
        return float(np.nanmax(same))

    @property
    def _one_is_enough(self) -> bool:
        """Whether the uncorrected verdict needs no more than one part that says it."""
        return (self.uncorrected == "supported") == self.any_of

    @property
    def decisive(self) -> Part:
        """The part that the verdict hangs on.

        The weakest support, or the strongest contradiction, of those that say the same; where one
        part is enough, the first that says it, and a count before a test, which need not hold
        then.
        """
        same = [p for p in self.parts if p.decides and p.verdict == self.uncorrected]
        untested = [p for p in same if np.isnan(p.p)]
        if untested and self._one_is_enough:
            return untested[0]
        end = 1 if self.uncorrected == "contradicted" else 0
        if self.any_of or all(np.isnan(part.interval[end]) for part in same):
            return same[0]
        return min(same, key=lambda p: np.nan_to_num(p.interval[end], nan=np.inf))

    @property
    def missing(self) -> str:
        """What has not been run, of the parts that decide; "" if nothing."""
        reasons = [p.missing.split("; ") for p in self.parts if p.decides and p.missing]
        return "; ".join(dict.fromkeys(chain.from_iterable(reasons)))

    @property
    def data(self) -> str:
        """The data set in words."""
        return DATASETS[self.dataset].words if self.dataset in DATASETS else self.dataset

    @property
    def where(self) -> str:
        """Data set, regime and variant in words."""
        regime = f"{REGIMES[self.gradient]} gradient" if self.gradient else ""
        return ", ".join(filter(None, (self.data, regime, self.variant)))


def holds(condition: bool) -> Verdict:
    """The verdict on what is counted or computed and has no interval."""
    return "supported" if condition else "contradicted"


def counted(what: str, condition: bool, value: float, unit: str, seeds: int = 0) -> Part:
    """What is counted or computed and has no interval: supported if a condition holds."""
    return Part(what, holds(condition), value, seeds=seeds, unit=unit, signed=False)


def side(interval: tuple[float, float], limit: float = 0.0) -> Verdict:
    """Supported if the whole interval lies above a limit, contradicted if it lies below."""
    low, high = interval
    if low > limit:
        return "supported"
    return "contradicted" if high < limit else "inconclusive"


def above(
    what: str, values: pd.Series, limit: float = 0.0, *, unit: str = "mIoU", **more: Any
) -> Part:
    """Whether the mean of one value a seed lies above a limit, by its 95 % interval."""
    mean, low, high = mean_interval(values)
    verdict, p = side((low, high), limit), mean_test(values, limit)
    return Part(what, verdict, mean, (low, high), len(values), unit, p=p, **more)


def about_zero(what: str, values: pd.Series, margin: float, unit: str) -> Part:
    """Whether the mean of one value a seed lies within ±margin: see ``statistics.equivalence``.

    Supported if its whole 90 % interval lies within the margin, contradicted if its 95 % interval
    lies beyond, on whichever side.
    """
    p, low, high, within = equivalence(values, margin)
    # p is the chance of a mean as near, had it lain on the margin: small within, large far beyond.
    beyond = 2 * (1 - p)
    verdict: Verdict = "contradicted" if beyond < LEVEL else "inconclusive"
    verdict = "supported" if within else verdict
    what, mean = f"{what}, within ±{margin:g} (90 % interval)", float(values.mean())
    return Part(what, verdict, mean, (low, high), len(values), unit, p=min(p, beyond))


def compare(what: str, better: pd.Series, worse: pd.Series, needed: int, **more: Any) -> Part:
    """The rule: the difference paired by seed, and where its 95 % interval lies."""
    if missing := missing_part(what, needed, better, worse):
        return dataclasses.replace(missing, **more)
    return above(what, (better - worse).dropna(), **more)


def missing_part(what: str, needed: int, *sides: pd.Series) -> Part | None:
    """The part that says what is missing for a comparison paired by seed; None if nothing is.

    The sides are indexed by seed; a series' name says which runs they are.
    """
    common = functools.reduce(pd.Index.intersection, (one.index for one in sides))
    if len(common) >= needed:
        return None
    short = [f"{s.name}: {len(s)} of {needed} seeds" for s in sides if len(s) < needed]
    missing = "; ".join(short) or f"only {len(common)} of {needed} seeds in common"
    return Part(what, "not run", seeds=len(common), unit="", missing=missing, needed=needed)


def on_same_images(evidence: Evidence, parts: Callable[[int], Sequence[Part]]) -> tuple[Part, ...]:
    """Parts made of scores on the most images that all networks in them were scored on."""
    made: tuple[Part, ...] = ()
    for images in evidence.image_counts or [0]:
        made = tuple(parts(images))
        if all(part.verdict != "not run" for part in made):
            break
    return made
