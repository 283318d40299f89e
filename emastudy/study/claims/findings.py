"""The verdict on one claim from the comparisons behind it, and how it is told.

Floor: study.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from itertools import chain

import numpy as np

from emastudy.study.claims.evidence import DATASETS, Part, Verdict


@dataclass(frozen=True)
class Finding:
    """The verdict on one claim, on one data set, under one gradient regime.

    Attributes:
        parts: The comparisons behind it.
        variant: What else is told apart, e.g. the normalisation; "" = nothing.
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
        said = [p.missing.split("; ") for p in self.parts if p.decides and p.missing]
        return "; ".join(dict.fromkeys(chain.from_iterable(said)))

    @property
    def where(self) -> str:
        """Data set, regime and variant in words."""
        regime = f"{self.gradient.replace('_', '-')} gradient" if self.gradient else ""
        words = (DATASETS.get(self.dataset, self.dataset), regime, self.variant)
        return ", ".join(filter(None, words))


#: A verdict as one character, told apart by its shape.
MARKS: dict[Verdict, str] = {
    "supported": "✓",
    "contradicted": "✗",
    "undecided": "?",
    "not run": "·",
}


def badge(verdict: Verdict, shown: str = "", *, told: str = "") -> str:
    """A verdict in a coloured box; the book's style sheet has the colours.

    Args:
        verdict: What colours the box.
        shown: What stands in it; default: the verdict, as a word.
        told: What it says when pointed at, and to a screen reader.
    """
    more = f' role="img" aria-label="{escape(told)}" title="{escape(told)}"' if told else ""
    return f'<span class="verdict {verdict.replace(" ", "-")}"{more}>{shown or verdict}</span>'


def marks(findings: Iterable[Finding]) -> str:
    """Verdicts as one character each in a coloured box, which tells its findings when pointed at.

    Findings that say the same share a mark.
    """
    told: dict[Verdict, list[str]] = {}
    for finding in findings:
        told.setdefault(finding.verdict, []).append(_words(finding))
    return "".join(
        badge(verdict, MARKS[verdict], told=f"{verdict}: {'; '.join(words)}")
        for verdict, words in told.items()
    )


def sentence(finding: Finding, *, bootstrap: bool = False) -> str:
    """A finding in one sentence of Markdown: its verdict, where, what, number, interval, seeds.

    Args:
        finding: A finding that was run.
        bootstrap: Also give the bootstrap's interval.
    """
    return f"{badge(finding.verdict)} {_words(finding, bootstrap)}"


def _words(finding: Finding, bootstrap: bool = False) -> str:
    part, deciding = finding.decisive, [p for p in finding.parts if p.decides]
    words = [f"{finding.where}:"] if finding.where else []
    words.append(f"{part.what}: {part.number}")
    if bootstrap and part.resampled:
        words.append(f"({part.resampled})")
    text = " ".join(words) + (f", {part.seeds} seeds" if part.seeds else "")
    same = sum(p.verdict == finding.verdict for p in deciding)
    if len(deciding) > 1 and same == len(deciding) and finding.verdict == "supported":
        many = np.isnan(part.interval[0])
        text += f"; {same - 1} further parts agree" if many else f"; the weakest of {same} parts"
    elif len(deciding) > 1:
        text += f"; {same} of {len(deciding)} parts {finding.verdict}"
    return text


def not_run(findings: Iterable[Finding]) -> str:
    """Where a claim is not decided for want of runs, and how many seeds are there; "" if nowhere.

    Regimes and variants of one data set are named only where some of them were run.
    """
    findings = list(findings)
    absent = [f for f in findings if f.verdict == "not run"]
    words: dict[str, None] = {}
    for finding in absent:
        part = finding.decisive
        short = f"{part.seeds} of {part.needed} seeds" if part.needed else finding.missing
        whole = all(f.verdict == "not run" for f in findings if f.dataset == finding.dataset)
        name = DATASETS.get(finding.dataset, finding.dataset) if whole else finding.where
        if whole and part.needed:
            same = [f.decisive for f in absent if f.dataset == finding.dataset]
            short = f"{max(p.seeds for p in same)} of {part.needed} seeds"
        words[f"{name} ({short})" if name else short] = None
    return "; ".join(words)
