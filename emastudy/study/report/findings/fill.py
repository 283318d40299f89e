"""Filling findings from the records, correcting their tests, and holding their words to them."""

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emastudy.errors import InputError
from emastudy.study.claims import CLAIMS, judge, load_evidence
from emastudy.study.report.findings.forms import FORMS
from emastudy.study.report.findings.load import PLACEHOLDER, Finding, Query
from emastudy.study.report.findings.queries import Comparison, Number
from emastudy.study.report.findings.verdicts import Verdicts, comparison, tested
from emastudy.study.statistics import benjamini_hochberg, p_text

# What is typed as a result needs tests that decide, or that show equivalence. "No better" is none.
_DECIDED = re.compile(r"(?<!not )(?<!no )\b(decided(ly)?|beats?|better|worse|wins?|loses?)\b")
_EQUIVALENT = re.compile(r"\b(equivalent|level with|not needed|hardly depends?|as good as)\b")
_INCONCLUSIVE = re.compile(r"\binconclusive\b")


@dataclass(frozen=True)
class Filled:
    """A finding with the numbers that the records give it."""

    finding: Finding
    numbers: Mapping[str, Sequence[Number]]

    @property
    def tests(self) -> list[Number]:
        """Those of its numbers that were tested."""
        return [one for numbers in self.numbers.values() for one in numbers if one.test]

    @property
    def of_the_page(self) -> list[Number]:
        """The tests that are corrected with the other findings of the page."""
        apart = {
            name
            for name, query in self.finding.numbers.items()
            if isinstance(query, Comparison) and query.apart
        }
        return [
            one
            for name, numbers in self.numbers.items()
            for one in numbers
            if one.test and not one.by_ledger and name not in apart
        ]

    @property
    def sentence(self) -> str:
        """The sentence, filled in.

        Raises:
            InputError: A number does not fit its form any more.
        """

        def show(match: re.Match[str]) -> str:
            name, form = match[1], match[2] or "number"
            query = self.finding.numbers[name]
            try:
                return FORMS[form](self.numbers[name], query.decimals)
            except InputError as error:
                raise self.finding.error(f"{match[0]}: {error}") from error

        return PLACEHOLDER.sub(show, " ".join(self.finding.text.split()))

    @property
    def over(self) -> str:
        """Over how many seeds, e.g. "3 to 5 seeds"; "" = over none."""
        found = [one.seeds for numbers in self.numbers.values() for one in numbers if one.seeds]
        return f"{_span(str(min(found)), str(max(found)))} seeds" if found else ""

    @property
    def note(self) -> str:
        """What stands behind it: the claim, the seeds, the corrected p-values."""
        notes = [one for one in (self.finding.claim, self.over) if one]
        for letter, by_ledger in (("p", True), ("q", False)):
            tests = [one.corrected for one in self.tests if one.by_ledger == by_ledger]
            if tests := [value for value in tests if not math.isnan(value)]:
                notes.append(f"{letter} {_span(p_text(min(tests)), p_text(max(tests)))}")
        return ", ".join(notes)

    def check_words(self) -> None:
        """Hold the typed words of the sentence to its tests.

        Raises:
            InputError: It says "decided", "beats" or "better" where a corrected test decides
                nothing, "inconclusive" where one does, or "equivalent" where none shows it.
        """
        text, tests = PLACEHOLDER.sub("", self.finding.text), self.tests
        for words, bears in (
            (_DECIDED, [one.holds and one.test == "difference" for one in tests]),
            (_EQUIVALENT, [one.holds and one.test == "equivalence" for one in tests]),
            (_INCONCLUSIVE, [not one.holds for one in tests]),
        ):
            said = words.search(text)
            if said and not (tests and all(bears)):
                found = ", ".join(f"{t.word} ({p_text(t.corrected)})" for t in tests) or "none"
                raise self.finding.error(
                    f"it says {said[0]!r}, which its corrected tests do not bear. They are: "
                    f"{found}. Say less, or let {{name.word}} say it"
                )


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def fill(findings: Iterable[Finding], experiments: Path) -> list[Filled]:
    """Findings with the numbers of the committed records, their tests corrected, their words held.

    Args:
        findings: All of the pages that they are of: a page's tests are corrected together.

    Raises:
        InputError: A query matches no run, a number does not fit, a word says too much.
    """
    findings = list(findings)
    queries = [query for finding in findings for query in finding.numbers.values()]
    evidence = load_evidence(experiments, dict.fromkeys(query.data for query in queries))
    sources = {one.name: one for one in evidence}
    asked = [query.ledger for query in queries if isinstance(query, Verdicts)]
    compared = [id for id, claim in CLAIMS.items() if claim.scope == "each"]
    verdicts = judge(evidence, dict.fromkeys([*asked, *compared]))

    def ask(query: Query) -> list[Number]:
        if isinstance(query, Verdicts):
            return list(query.ask(verdicts))
        return list(query.ask(sources[query.data]))

    filled, wrong = [], []
    for finding in findings:
        try:
            numbers = {name: ask(query) for name, query in finding.numbers.items()}
            filled.append(Filled(finding, numbers))
        except InputError as error:
            wrong.append(str(finding.error(str(error))))
    filled = _corrected(filled, tested(verdicts))
    for one in filled if not wrong else ():
        try:
            one.check_words()
            one.sentence  # noqa: B018 - numbers that do not fit their form show here
        except InputError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("\n".join(wrong))
    return filled


def _corrected(filled: Sequence[Filled], ledger: Mapping[Hashable, float]) -> list[Filled]:
    """With q-values of all tests that are not the ledger's; what it tests, too, has its p-value."""
    numbers = [{name: list(found) for name, found in one.numbers.items()} for one in filled]
    families: dict[object, list[tuple[list[Number], int]]] = {}
    for place, one in enumerate(filled):
        for name, query in one.finding.numbers.items():
            if not (isinstance(query, Comparison) and query.tested):
                continue
            found = numbers[place][name]
            for index, number in enumerate(found):
                p = ledger.get(comparison(query.data, number.value, number.low, number.high))
                if p is not None and number.test == "difference":
                    found[index] = replace(number, corrected=p, by_ledger=True)
                else:
                    family = (place, name) if query.apart else one.finding.page
                    families.setdefault(family, []).append((found, index))
    for members in families.values():
        q = benjamini_hochberg(found[index].p for found, index in members)
        for (found, index), value in zip(members, q, strict=True):
            found[index] = replace(found[index], corrected=float(value))
    return [replace(one, numbers=found) for one, found in zip(filled, numbers, strict=True)]
