"""Findings where they are read: on the page that shows them, in README, in the book."""

import functools
import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from emastudy.errors import InputError
from emastudy.study.report.findings.fill import Filled, fill
from emastudy.study.report.findings.load import load_findings
from emastudy.study.runs import records_folder

#: What the words in findings mean.
MEANING = (
    "*Decided*: significant at 5 % after the correction for the number of tests. *Equivalent*: "
    "shown to be within ±0.5 mIoU. *Inconclusive*: neither; there may still be a difference. "
    "Differences are paired by seed; brackets hold 95 % intervals over seeds, each by itself. p, "
    "with a claim's number, is corrected by Holm's method over the ledger's verdicts; q by "
    "Benjamini and Hochberg's, which is milder, over the page's other tests: a smaller difference "
    "may be decided where a larger one is not."
)
#: What a statistician would ask of them.
DETAILS = (
    "Equivalence is tested by two one-sided tests (TOST). Holm's family is the verdicts on one "
    "data set under one gradient regime; the p of a verdict's further comparisons is scaled alike, "
    "which does not hold the 5 % for all of them together, and a part of a claim that is "
    "inconclusive as a whole is corrected with the findings of its page instead. Some comparisons "
    "were given more seeds after first verdicts were known, as the ledger says; no p allows for "
    "that. q counts no comparison that no sentence was made of, and a finding of very many tests "
    "(page 23 has one) is corrected by itself. A "
    "table's q is over its own rows, and may be another; *equivalent within 0.5* beside a table is "
    "the test of that one comparison, uncorrected. With one iteration, or one basis, the one-step "
    "and the unrolled gradient make the same network: what is counted over regimes counts it twice."
)
#: How many findings a page shows before it folds the others away; README's come first.
FIRST = 4


@functools.cache
def committed(experiments: Path, page: int = 0) -> tuple[Filled, ...]:
    """The findings of a checkout, or of one page (0 = all), from its committed records.

    Raises:
        InputError: See ``load_findings`` and ``fill``; or the page has none.
    """
    findings = load_findings(experiments / "findings.yaml")
    chosen = [one for one in findings if page in (0, one.page)]
    if not chosen:
        raise InputError(f"experiments/findings.yaml has no finding of page {page}")
    return tuple(fill(chosen, experiments))


def found_here(page: str) -> str:
    """What was found on a page, from the committed records, as Markdown for its top.

    Args:
        page: Stem of its notebook.

    Raises:
        InputError: See :func:`committed`.
    """
    experiments = records_folder().parent
    if not (experiments / "findings.yaml").is_file():
        return f"*Findings are read from the study's checkout; {experiments} has none.*"
    filled = committed(experiments, int(page[:2]))
    ordered = sorted(filled, key=lambda one: not one.finding.readme)
    first, others = ordered[:FIRST], ordered[FIRST:]
    tests = sum(len(one.of_the_page) for one in filled)
    family = f" There are {tests} such tests here." if tests else ""
    parts = ["\n".join(map(_item, first))]
    if others:
        more = f"{len(others)} more finding{'s' * (len(others) > 1)}"
        parts.append(_folded(more, "\n".join(map(_item, others))))
    if any(one.tests for one in filled):
        more = " More of it is on [the page of all findings](../findings.md)."
        parts.append(_folded("What the words mean", MEANING + family + more))
    return "\n\n".join(parts)


def found_in_short() -> str:
    """The findings that README has, with links as a page of the book has them."""
    return main_findings(records_folder().parent, "{page}.ipynb")


def findings_text(filled: Iterable[Filled]) -> str:
    """Findings as text, one a paragraph."""
    return "\n\n".join(
        f"{one.finding.page} {one.finding.id}\n   {one.sentence}"
        + f"\n   ({one.note})" * bool(one.note)
        for one in filled
    )


def main_findings(experiments: Path, link: str) -> str:
    """The findings that README has, with seeds, as a list; ``link`` has "{page}" for a stem."""
    stems, filled = _notebooks(experiments), committed(experiments)
    chosen = sorted((one for one in filled if one.finding.readme), key=lambda f: f.finding.readme)
    return "\n".join(
        f"- {one.sentence} "
        f"([{one.finding.page}]({link.format(page=stems[one.finding.page])}), {one.over})"
        for one in chosen
    )


def all_findings(experiments: Path) -> str:
    """All findings in Markdown, page by page."""
    stems, parts = _notebooks(experiments), [MEANING, DETAILS]
    filled = sorted(committed(experiments), key=lambda one: one.finding.page)
    for page, mine in groupby(filled, lambda one: one.finding.page):
        notebook = (experiments / f"{stems[page]}.ipynb").read_text(encoding="utf-8")
        first = json.loads(notebook)["cells"][0]
        title = "".join(first["source"]).splitlines()[0].removeprefix("# ")
        parts += [f"**[{title}](notebooks/{stems[page]}.ipynb)**", "\n".join(map(_item, mine))]
    return "\n\n".join(parts)


def _notebooks(experiments: Path) -> dict[int, str]:
    """Number → stem."""
    return {int(path.name[:2]): path.stem for path in experiments.glob("??_*.ipynb")}


def _item(one: Filled) -> str:
    return f"- {one.sentence}" + (f" *({one.note})*" if one.note else "")


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"
