"""Claims: what the paper says, how it is decided, and the verdicts on it.

The rules were fixed before any run; what was amended since is dated, and the verdict by the rule as
first written stays beside. Every verdict is computed, never typed, and belongs to one data set and,
where the claim is about EMA networks, to one gradient regime. A rule with several parts is
supported if all are, and contradicted as soon as one is.

Verdicts are many, so they are corrected by Holm's method. A family is all verdicts that rest on a
test **on one data set under one regime**: of nineteen claims about ten, all named before any run.
One such column of the ledger is one reading of the paper, checked on one world, and no sentence of
ours is drawn from all columns together; in it, the chance that any verdict is false is about 5 %
at most (a little more where C13 can be supported and contradicted by different tests).
A claim that all parts must support needs no correction for their number; where one part is enough
to contradict, Bonferroni's is inside the judgement's own p-value. Identities, counts
(collapsed runs, C10) and costs are no tests, and that chance is not about them; comparisons on
pages, chosen after looking, are not in it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from emastudy.errors import InputError
from emastudy.study.claims.evidence import Evidence
from emastudy.study.claims.verdict import Judgement
from emastudy.study.recipes import REGIMES
from emastudy.study.statistics import holm

#: Makes judgements, without the claim's id, of the evidence that the claim's scope says.
Judge = Callable[..., Iterable[Judgement]]


@dataclass(frozen=True)
class Amendment:
    """A change of a rule after runs existed: when, why, and how it reads now."""

    date: str
    reason: str
    rule: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row of the ledger."""

    id: str  #: "C1" to "C19" are the paper's claims.
    section: str
    statement: str
    measure: str
    rule: str  #: When it counts as supported, as first written.
    page: str  #: Stem of the notebook that shows it.
    #: What the judge is given: "each" data set by itself, under each regime by itself; "all" data
    #: sets together; "none" where no data are needed.
    scope: Literal["each", "all", "none"] = "each"
    regimes: tuple[str, ...] = tuple(REGIMES)  #: Gradient regimes that an "each" is judged under.
    judge: Judge = dataclasses.field(repr=False)
    amendment: Amendment | None = None  #: How the rule was changed since; None = it was not.

    def judgements(self, evidence: Sequence[Evidence]) -> list[Judgement]:
        """Every verdict on this claim, uncorrected."""
        if self.scope == "each":
            return [judgement for one in evidence for judgement in _judged(self, one)]
        return list(_judged(self, *(() if self.scope == "none" else evidence)))


# Most pages ask for the same verdicts on the same evidence, some of them several times.
@functools.lru_cache(maxsize=512)
def _judged(claim: Claim, *evidence: Evidence) -> tuple[Judgement, ...]:
    if claim.scope == "each":
        (one,) = evidence
        return tuple(
            dataclasses.replace(judgement, claim=claim.id, dataset=one.name, gradient=gradient)
            for gradient in claim.regimes
            for judgement in claim.judge(one.under(gradient))
        )
    judgements = claim.judge() if claim.scope == "none" else claim.judge(evidence)
    return tuple(dataclasses.replace(judgement, claim=claim.id) for judgement in judgements)


#: The claims by id, in their order.
CLAIMS: dict[str, Claim] = {}


def claim(id: str, **fields: Any) -> Callable[[Judge], Judge]:
    """Register a function as the judge of a claim, whose fields are those of :class:`Claim`.

    The texts were written, and the rules fixed, before any run: a test holds them.
    """

    def decorate(judge: Judge) -> Judge:
        CLAIMS[id] = Claim(id=id, judge=judge, **fields)
        # The files that judges stand in follow the paper's sections, not the numbers.
        for key in sorted(CLAIMS, key=lambda key: int(key[1:])):
            CLAIMS[key] = CLAIMS.pop(key)
        return judge

    return decorate


def judge(evidence: Sequence[Evidence], ids: Iterable[str] = ()) -> list[Judgement]:
    """Every verdict on some claims, or on all, corrected for the verdicts on all claims.

    Raises:
        InputError: There is no such claim.
    """
    chosen = tuple(ids) or tuple(CLAIMS)
    for id in chosen:
        if id not in CLAIMS:
            raise InputError(f"there is no claim {id!r}; there are {', '.join(CLAIMS)}")
    # Whichever claims are asked for, the family is the same, and so are their verdicts.
    judged = {id: c.judgements(evidence) for id, c in CLAIMS.items() if c.scope == "each"}
    every = [judgement for judgements in judged.values() for judgement in judgements]
    places = [[judgement.dataset, judgement.gradient] for judgement in every]
    table = pd.DataFrame(places, columns=["dataset", "gradient"]).assign(p=[f.p for f in every])
    adjusted = iter(table.groupby(["dataset", "gradient"])["p"].transform(holm))
    corrected = {
        id: [dataclasses.replace(f, adjusted=next(adjusted)) for f in judgements]
        for id, judgements in judged.items()
    }
    return [f for id in chosen for f in corrected.get(id) or CLAIMS[id].judgements(evidence)]
