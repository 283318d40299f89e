"""Tables that pages, README and the command share, made from records.

Floor: study (imports yaml).
"""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import get_args

import pandas as pd
import yaml

from emastudy.study import claims
from emastudy.study.claims import DATASETS, MARKS, Finding, Verdict, badge, marks, not_run, sentence
from emastudy.study.recipes import PROTOCOLS
from emastudy.study.runs import load_records
from emastudy.study.statistics import as_text, paired_differences, summarize
from emastudy.study.tables import accuracy, estimates_table

_NAMES = {head: name for name, head in accuracy.RIVALS.items()}
_GRADIENTS = {
    "detached": "EMA (detached, as released)",
    "one_step": "EMA (one-step gradient)",
    "unrolled": "EMA (unrolled gradient)",
}


def method_names(runs: pd.DataFrame) -> pd.Series:
    """A reader's name for each run's head, with EMA's gradient regime.

    Args:
        runs: See ``records.load_records``.
    """
    return pd.Series(
        [
            _GRADIENTS[row["head.gradient"]] if row["head"] == "ema" else _NAMES[row["head"]]
            for _, row in runs.iterrows()
        ],
        index=runs.index,
    )


def best_other(runs: pd.DataFrame, by: str, *, baseline: float) -> str:
    """Which other value of an option scored best, against the usual one, as a sentence.

    Args:
        runs: See ``records.load_records``; one run per value and seed.
        by: The option's column.
        baseline: Its usual value.
    """
    if baseline not in set(runs[by]) or runs[by].nunique() < 2:
        return "nothing to compare yet."
    found = paired_differences(runs, by, "miou", baseline=baseline)
    best = found.sort_values("difference", ascending=False).iloc[0]
    verdict = "decided" if best["decided"] else "not decided"
    return (
        f"the best of the others is {best.name:g}, {as_text(best)} mIoU against {baseline:g} "
        f"({best['seeds']} seeds), {verdict}."
    )


def in_short(differences: pd.DataFrame, baseline: str, data: str, quantity: str = "mIoU") -> str:
    """What differs from a baseline, in Markdown for the top of a page.

    Args:
        differences: See ``statistics.paired_differences``; if by regime, within "gradient".
        baseline: What was subtracted, in words.
        data: What it was measured on, in words.
        quantity: What was measured, and its unit.

    Returns:
        A sentence; with regimes, one item of a list for each.
    """
    if differences.empty:
        return "**In short.** Nothing to compare yet."

    def items(part: pd.DataFrame) -> str:
        return ", ".join(
            f"{name} {as_text(row)}{'' if row['decided'] else ' (not decided)'}"
            for name, row in part.iterrows()
        )

    about = (
        f"**In short.** {quantity} on {data}, less that of {baseline} "
        f"({differences['seeds'].max()} seeds, paired, 95 % intervals)"
    )
    if differences.index.nlevels == 1:
        return f"{about}: {items(differences)}."
    regimes = differences.groupby(level="gradient", sort=False)
    lines = [f"- gradients {name}: {items(part.droplevel(0))}" for name, part in regimes]
    return f"{about}:\n\n" + "\n".join(lines)


def circumstances_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Machine, versions, commit and cost of runs, one row per kind of circumstance.

    Args:
        runs: See ``records.load_records``.
    """
    records = list(runs["record"])

    def every(values: list[str]) -> str:
        return ", ".join(sorted(set(values)))

    rows = {
        "processor": every([str(r.machine["processor"]) for r in records]),
        "cores, threads per run": every(
            [f"{r.machine['cores']}, {r.machine['threads']}" for r in records]
        ),
        "precision": every([r.machine["precision"] for r in records]),
        "versions": every([", ".join(f"{k} {v}" for k, v in r.versions.items()) for r in records]),
        "commit of the source": every([r.commit for r in records]),
        "runs": str(len(records)),
        "minutes of training per run": (
            f"{runs['seconds'].min() / 60:.1f} to {runs['seconds'].max() / 60:.1f}"
        ),
        "recorded": f"{min(r.created for r in records)} to {max(r.created for r in records)}",
    }
    return pd.DataFrame({"": rows}).rename_axis("circumstances")


def headline(records: Path) -> str:
    """The study's first result as a Markdown table: the animals runs, best first.

    Args:
        records: Folder of the animals records.
    """
    runs = load_records(records)
    runs["method"] = method_names(runs)
    summary = summarize(runs, "method", "miou").sort_values("mean", ascending=False)
    differences = paired_differences(runs, "method", "miou", baseline="FCN")
    lines = [
        "| context module | mIoU, % | 95 % interval | against FCN, paired by seed | seeds |",
        "|---|---|---|---|---|",
    ]
    for method, row in summary.iterrows():
        against = "-"
        if method in differences.index:
            against = as_text(differences.T[method])
        lines.append(
            f"| {method} | {row['mean']:.2f} | [{row['low']:.2f}, {row['high']:.2f}] | {against} "
            f"| {row['seeds']:.0f} |"
        )
    return "\n".join(lines)


def ledger_text(findings: Iterable[Finding], *, verbose: bool = False) -> str:
    """The ledger as aligned text.

    Args:
        findings: See ``claims.judge``.
        verbose: Also the rules, and of every finding that was run at least in part each part with
            its number, both intervals and what is missing.
    """
    lines = []
    width = max(map(len, get_args(Verdict)))
    for id, group in groupby(findings, key=lambda finding: finding.claim):
        claim, mine = claims.CLAIMS[id], list(group)
        room = max(len(finding.where) for finding in mine)
        lines += ["", f"{id:<4} {claim.statement} ({claim.section})"]
        if verbose:
            lines.append(f"     measure: {claim.measure}; supported if: {claim.rule}")
        for finding in mine:
            begun = any(part.verdict != "not run" for part in finding.parts)
            if not begun or (finding.verdict == "not run" and not verbose):
                continue
            head = f"     {finding.verdict:<{width}}  {finding.where:<{room}}"
            part = finding.decisive
            seeds = f", {part.seeds} seeds" if part.seeds else ""
            lines.append(head if verbose else f"{head}  {part.what}: {part.number}{seeds}")
            for part in finding.parts if verbose else ():
                boot = f", {part.resampled}" if part.resampled else ""
                seeds = f", {part.seeds} seeds" if part.seeds and not part.missing else ""
                note = "" if part.decides else " (shown beside)"
                lines.append(
                    f"         {part.verdict:<{width}}  {part.what}: "
                    f"{part.number}{boot}{seeds}{note}"
                )
        absent = not_run(mine)
        lines += [f"     {'not run':<{width}}  {absent}"] if absent else []
    return "\n".join(line.rstrip() for line in lines).lstrip("\n")


def ledger_overview(findings: Iterable[Finding], pages: Iterable[str]) -> str:
    """The ledger at a glance, as Markdown: a mark a verdict, one row a claim, a column a data set.

    A cell has a place for each gradient regime, in the order of ``claims.GRADIENTS``. Verdicts on
    one regime that differ, by normalisation say, stand above each other.

    Args:
        findings: See ``claims.judge``.
        pages: The book's pages, as in ``_toc.yml``; only these are linked.
    """
    findings, listed = list(findings), set(pages)
    counts = Counter(finding.verdict for finding in findings)
    legend = ", ".join(
        f"{badge(word, MARKS[word])} {word} ({counts[word]})" for word in get_args(Verdict)
    )
    regimes = ", ".join(name.replace("_", "-") for name in claims.GRADIENTS)
    # A page says without data what it proves or counts: identities, costs.
    columns = {"": "without data", **DATASETS}
    lines = [
        f"{legend}. Three marks in a cell are three gradient regimes: {regimes}. Point at a mark "
        "to read its number.",
        "",
        f"| claim | the paper says | {' | '.join(columns.values())} |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for id, group in groupby(findings, key=lambda finding: finding.claim):
        mine = list(group)
        cells = []
        for dataset in columns:
            here = [f for f in mine if f.dataset == dataset]
            places = claims.GRADIENTS if any(f.gradient for f in here) else ("",)
            stacks = [marks(f for f in here if f.gradient == place) for place in places]
            cell = "".join(f'<span class="stack">{stack}</span>' for stack in stacks)
            cells.append(f'<span class="marks">{cell}</span>' if here else "")
        name = _claim_link(id, listed)
        lines.append(f"| {name} | {claims.CLAIMS[id].statement} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _claim_link(id: str, listed: set[str]) -> str:
    page = f"notebooks/{claims.CLAIMS[id].page}"
    return f"[{id}]({page}.ipynb)" if page in listed else id


def ledger_table(findings: Iterable[Finding], pages: Iterable[str]) -> str:
    """The ledger with its numbers as a Markdown table, one row a claim.

    Args:
        findings: See ``claims.judge``.
        pages: The book's pages, as in ``_toc.yml``; only these are linked.
    """
    listed = set(pages)
    lines = ["| claim | the paper says | and our runs say |", "|---|---|---|"]
    for id, group in groupby(findings, key=lambda finding: finding.claim):
        claim, mine = claims.CLAIMS[id], list(group)
        cell = [sentence(f) for f in mine if f.verdict != "not run"]
        absent = not_run(mine)
        cell += [f"{badge('not run')} {absent}"] if absent else []
        name = _claim_link(id, listed)
        lines.append(f"| {name} | {claim.statement} ({claim.section}) | {'<br>'.join(cell)} |")
    return "\n".join(lines)


def book_pages(toc: Path) -> list[str]:
    """The pages that a book's ``_toc.yml`` lists, parts flattened."""
    parts = yaml.safe_load(toc.read_text())["parts"]
    return [chapter["file"] for part in parts for chapter in part["chapters"]]


def findings_section(readme: str) -> str:
    """README's list of findings, with its links to notebooks made links to the book's pages.

    Args:
        readme: Text of README.md.

    Raises:
        ValueError: It has no such section.
    """
    found = re.search(r"^## What did not reproduce.*?\n(.*?)^## ", readme, re.DOTALL | re.MULTILINE)
    if not found:
        raise ValueError("README.md has no section 'What did not reproduce, …' before another one")
    return re.sub(r"\(experiments/(\w+\.ipynb)\)", r"(notebooks/\1)", found[1]).strip()


def write_includes(records: Path, folder: Path) -> None:
    """Write what pages include: the ledger, at a glance and in full, from the committed records,
    README's findings, and estimates of cost.

    Args:
        records: ``experiments/records``, beside whose parent lie README.md and ``book``.
        folder: Where the page looks for it, ``book/generated``.
    """
    experiments = records.parent
    findings = claims.judge(claims.load_evidence(experiments))
    pages = book_pages(experiments.parent / "book" / "_toc.yml")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overview.md").write_text(ledger_overview(findings, pages) + "\n")
    (folder / "ledger.md").write_text(ledger_table(findings, pages) + "\n")
    findings_text = findings_section((experiments.parent / "README.md").read_text())
    (folder / "findings.md").write_text(findings_text + "\n")
    (folder / "estimates.md").write_text(estimates_table(PROTOCOLS) + "\n")
