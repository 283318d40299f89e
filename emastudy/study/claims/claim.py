"""Claims: what the paper says, how it is decided, and the verdicts on it.

The rules were fixed before any run. A verdict is computed from records, measurements and, for
identities and costs, live; it is never typed. Every verdict belongs to one data set and, where the
claim is about EMA networks, to one gradient regime. A rule with several parts is supported if all
are, and contradicted as soon as one is.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from emastudy.errors import InputError
from emastudy.study.claims.evidence import Evidence
from emastudy.study.claims.verdict import Finding
from emastudy.study.recipes import REGIMES

#: Makes findings, without the claim's id, of the evidence that the claim's scope says.
Judge = Callable[..., Iterable[Finding]]
Scope = Literal["each", "all", "none"]


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        id: "C1" to "C19".
        section: Where the paper says it.
        statement: What it says.
        measure: What is measured.
        rule: When it counts as supported.
        page: Stem of the notebook that shows it.
        scope: What the judge is given: "each" data set by itself, under each regime by itself;
            "all" data sets together; "none" where no data are needed.
        regimes: Gradient regimes that an "each" is judged under.
        judge: Decides.
    """

    id: str
    section: str
    statement: str
    measure: str
    rule: str
    page: str
    scope: Scope
    regimes: tuple[str, ...]
    judge: Judge = dataclasses.field(repr=False)

    def findings(self, evidence: Sequence[Evidence]) -> list[Finding]:
        """Every verdict on this claim."""
        if self.scope == "each":
            return [
                dataclasses.replace(finding, claim=self.id, dataset=one.name, gradient=gradient)
                for one in evidence
                for gradient in self.regimes
                for finding in self.judge(one.under(gradient))
            ]
        findings = self.judge() if self.scope == "none" else self.judge(evidence)
        return [dataclasses.replace(finding, claim=self.id) for finding in findings]


#: The claims by id, in their order.
CLAIMS: dict[str, Claim] = {}


def claim(
    id: str,
    *,
    section: str,
    statement: str,
    measure: str,
    rule: str,
    page: str,
    scope: Scope = "each",
    regimes: Iterable[str] = tuple(REGIMES),
) -> Callable[[Judge], Judge]:
    """Register a function as the judge of a claim; see :class:`Claim` for the arguments.

    The texts were written, and the rules fixed, before any run: a test holds them.
    """

    def decorate(judge: Judge) -> Judge:
        CLAIMS[id] = Claim(
            id, section, statement, measure, rule, page, scope, tuple(regimes), judge
        )
        # The files that judges stand in follow the paper's sections, not the numbers.
        for key in sorted(CLAIMS, key=lambda key: int(key[1:])):
            CLAIMS[key] = CLAIMS.pop(key)
        return judge

    return decorate


def judge(evidence: Sequence[Evidence], ids: Iterable[str] = ()) -> list[Finding]:
    """Every verdict on some claims.

    Args:
        evidence: See ``load_evidence``.
        ids: Of the claims; none = all.

    Raises:
        InputError: There is no such claim.
    """
    chosen = tuple(ids) or tuple(CLAIMS)
    for id in chosen:
        if id not in CLAIMS:
            raise InputError(f"there is no claim {id!r}; there are {', '.join(CLAIMS)}")
    return [finding for id in chosen for finding in CLAIMS[id].findings(evidence)]


def ledger(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings as a tidy table.

    Returns:
        One row a finding: "claim", "dataset", "gradient", "variant", "verdict", the numbers of
        its decisive part ("what", "effect", "low", "high", "unit", "seeds"), and "missing" where
        it is not run.
    """
    columns = ["claim", "dataset", "gradient", "variant", "verdict"]
    columns += ["what", "effect", "low", "high", "unit", "seeds", "missing"]
    rows = []
    for f in findings:
        about, part = (f.claim, f.dataset, f.gradient, f.variant, f.verdict), f.decisive
        number = (part.what, part.effect, *part.interval, part.unit, part.seeds)
        rows.append((*about, *number, f.missing))
    return pd.DataFrame(rows, columns=columns)
