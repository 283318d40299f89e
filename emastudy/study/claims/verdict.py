"""Verdicts: on one comparison (a part), and on a claim from the comparisons behind it (a finding).

All differences are turned so that positive is what the paper says. The rule, unless a claim says
otherwise, is the difference of mIoU paired by seed: supported if its whole 95 % interval lies above
zero, contradicted if it lies below, undecided if it holds zero; and not run with too few seeds.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import pandas as pd

from emastudy.study.claims.evidence import DATASETS, Evidence
from emastudy.study.recipes import REGIMES
from emastudy.study.statistics import mean_interval

Verdict = Literal["supported", "contradicted", "undecided", "not run"]

_NAN = float("nan")


@dataclass(frozen=True)
class Part:
    """One comparison or count behind a verdict.

    Attributes:
        what: What is compared, in words.
        verdict: What this part alone says of the claim.
        effect: The number. Differences are turned so that *positive* is what the paper claims.
        interval: Its 95 % interval (Student's, paired by seed, unless ``what`` says another);
            NaN where the number is a count or an identity.
        seeds: Number of seeds that entered, or that are there of those ``needed``.
        unit: Of the effect.
        signed: Whether the effect is a difference, to be shown with its sign.
        missing: What is missing, where the verdict is "not run".
        needed: How many seeds there must be; 0 = the part is no matter of seeds.
        decides: Whether the rule asks for this part; others are shown beside.
    """

    what: str
    verdict: Verdict
    effect: float = _NAN
    interval: tuple[float, float] = (_NAN, _NAN)
    seeds: int = 0
    unit: str = "mIoU"
    signed: bool = True
    missing: str = ""
    needed: int = 0
    decides: bool = True

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
class Finding:
    """The verdict on one claim, on one data set, under one gradient regime.

    Attributes:
        parts: The comparisons behind it.
        variant: What else distinguishes it, e.g. the normalisation; "" = nothing.
        any_of: Whether one supported part is enough.
        claim: Id of the claim.
        dataset: The profile; "" where no data set is needed.
        gradient: The regime; "" where the claim is not about EMA networks' training.
    """

    parts: tuple[Part, ...]
    variant: str = ""
    any_of: bool = False
    claim: str = ""
    dataset: str = ""
    gradient: str = ""

    @property
    def verdict(self) -> Verdict:
        """All parts that decide, taken together."""
        seen = {part.verdict for part in self.parts if part.decides}
        order: tuple[Verdict, ...] = ("contradicted", "not run", "undecided", "supported")
        if self.any_of:
            order = ("supported", "not run", "undecided", "contradicted")
        return next(verdict for verdict in order if verdict in seen)

    @property
    def decisive(self) -> Part:
        """The part that the verdict hangs on.

        The weakest support, or the strongest contradiction, of those that say the same; where one
        part is enough, the first that says it.
        """
        same = [p for p in self.parts if p.decides and p.verdict == self.verdict]
        end = 1 if self.verdict == "contradicted" else 0
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


def side(interval: tuple[float, float], limit: float = 0.0) -> Verdict:
    """Supported if the whole interval lies above a limit, contradicted if below, else undecided."""
    low, high = interval
    if low > limit:
        return "supported"
    return "contradicted" if high < limit else "undecided"


def above_zero(what: str, values: pd.Series, *, unit: str = "mIoU", **more: Any) -> Part:
    """Whether the mean of one value a seed lies above zero, by its 95 % interval."""
    mean, low, high = mean_interval(values)
    return Part(what, side((low, high)), mean, (low, high), len(values), unit, **more)


def compare(what: str, better: pd.Series, worse: pd.Series, needed: int, **more: Any) -> Part:
    """The rule: the difference paired by seed, and where its 95 % interval lies.

    Args:
        what: In words.
        better: One value a seed, of what the paper says is higher.
        worse: The same of what it says is lower.
        needed: Seeds that both must have.
        more: Further fields of the part.
    """
    missing = missing_part(what, needed, better, worse)
    if missing:
        return dataclasses.replace(missing, **more)
    return above_zero(what, (better - worse).dropna(), **more)


def missing_part(what: str, needed: int, *sides: pd.Series) -> Part | None:
    """The part that says what is missing for a comparison paired by seed; None if nothing is.

    Args:
        what: Is to be compared, in words.
        needed: Seeds that all sides must share.
        sides: One value a seed, indexed by seed; a series' name says which runs they are.
    """
    common = sides[0].index
    for other in sides[1:]:
        common = common.intersection(other.index)
    if len(common) >= needed:
        return None
    short = [f"{s.name}: {len(s)} of {needed} seeds" for s in sides if len(s) < needed]
    missing = "; ".join(short) or f"only {len(common)} of {needed} seeds in common"
    return Part(what, "not run", seeds=len(common), unit="", missing=missing, needed=needed)


def on_same_images(evidence: Evidence, parts: Callable[[int], Sequence[Part]]) -> tuple[Part, ...]:
    """Parts made of scores on the most images that all networks in them were scored on.

    Args:
        evidence: Whose scores.
        parts: Makes them of the scores on so many images.
    """
    made: tuple[Part, ...] = ()
    for images in evidence.image_counts or [0]:
        made = tuple(parts(images))
        if all(part.verdict != "not run" for part in made):
            break
    return made
