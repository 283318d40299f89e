"""What findings ask of the ledger: verdicts, with the number that each hangs on."""

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from emastudy.errors import InputError
from emastudy.study.claims import CLAIMS, Judgement, Part
from emastudy.study.recipes import REGIMES
from emastudy.study.report.findings.queries import Number


@dataclass(frozen=True)
class Verdicts:
    """Asks for the ledger's verdicts on a claim, one a gradient regime."""

    data: str  #: Data set.
    ledger: str  #: Id of the claim.
    gradients: Sequence[str] = ()  #: Regimes; none = all those that were run.
    variant: str = ""  #: See ``claims.Judgement``.
    part: str = ""  #: How the part whose number is shown begins; "" = the decisive one.
    turned: bool = False  #: Whether the sentence says the opposite of the claim: turns the sign.
    decimals: int = 2  #: That are shown.
    tested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.ledger not in CLAIMS:
            raise InputError(f"there is no claim {self.ledger!r}; there are {', '.join(CLAIMS)}")

    def ask(self, verdicts: Sequence[Judgement]) -> Iterator[Number]:
        """A number for each regime, with the p-value by Holm's method.

        Raises:
            InputError: There is no such part, or it was not run.
        """
        place = self.ledger, self.data, self.variant
        about = [f for f in verdicts if (f.claim, f.dataset, f.variant) == place]
        run = {f.gradient: f for f in about if f.verdict != "not run"}
        absent = [name for name in self.gradients if name not in run]
        if absent or not run:
            where = f"{self.data} under {', '.join(absent) or 'any gradient'}"
            raise InputError(f"{self.ledger} was not run on {where}, {self.variant or 'as usual'}")
        chosen = [run[name] for name in self.gradients or run]
        sign = -1 if self.turned else 1
        for one in chosen:
            part = self._part(one)
            low, high = sorted(sign * end for end in part.interval)
            yield Number(
                sign * part.effect,
                low,
                high,
                seeds=part.seeds,
                case=REGIMES.get(one.gradient, one.gradient) if len(chosen) > 1 else "",
                signed=part.signed,
                unit="" if part.signed else part.unit,
                test="" if math.isnan(part.p) or not part.decides else "difference",
                p=part.p,
                corrected=_adjusted(one, part),
                by_ledger=True,
            )

    def _part(self, judgement: Judgement) -> Part:
        if not self.part:
            return judgement.decisive
        for part in judgement.parts:
            if part.what.startswith(self.part):
                return part
        there = "; ".join(part.what for part in judgement.parts)
        raise InputError(f"{self.ledger} has no part that begins {self.part!r}; there are {there}")


def _adjusted(judgement: Judgement, part: Part) -> float:
    """A part's p-value by Holm's method among verdicts, and for the parts of its own.

    NaN, which decides nothing, where the verdict does not hang on this part: it is open, or another
    part makes it.
    """
    if part.verdict != judgement.uncorrected or judgement.uncorrected == "inconclusive":
        return math.nan
    tested = sum(one.decides and not math.isnan(one.p) for one in judgement.parts)
    p = min(1.0, tested * part.p) * (judgement.adjusted / judgement.p if judgement.p else 1.0)
    if (judgement.uncorrected == "supported") != judgement.any_of:
        return min(p, judgement.adjusted)  # all parts are needed: where it holds, each does
    return p


def tested(verdicts: Iterable[Judgement]) -> dict[Hashable, float]:
    """The p-value by Holm's method of every comparison that decides a verdict, by its numbers.

    One that several claims make has the largest. One that stands beside a count which decides
    already is not corrected by the ledger, and not in it.
    """
    found: dict[Hashable, float] = {}
    for one in verdicts:
        for part in one.parts if one.uncorrected != "inconclusive" else ():
            if part.decides and not math.isnan(part.p) and part.verdict == one.uncorrected:
                if math.isnan(p := _adjusted(one, part)):
                    continue
                key = comparison(one.dataset, part.effect, *part.interval)
                found[key] = max(found.get(key, 0.0), p)
    return found


def comparison(data: str, difference: float, low: float, high: float) -> Hashable:
    """By what a comparison is known again, whichever way round it is told."""
    return data, round(abs(difference), 9), round(high - low, 9)
