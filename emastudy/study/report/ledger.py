"""The ledger in words: as text for the command, as tables for the book, as answers for pages."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from typing import get_args

import numpy as np
import yaml

from emastudy.errors import InputError
from emastudy.study.claims import CLAIMS, DATASETS, Claim, Judgement, Part, Verdict, judge
from emastudy.study.claims.evidence import Evidence, load_evidence
from emastudy.study.recipes import REGIMES
from emastudy.study.runs import records_folder

#: A verdict as one character, distinct in shape.
MARKS: dict[Verdict, str] = {
    "supported": "✓",
    "contradicted": "✗",
    "inconclusive": "?",
    "not run": "·",
}
#: Which way an inconclusive verdict leans whose own interval leaves out zero.
_LEANS: dict[Verdict, str] = {"supported": "↑", "contradicted": "↓"}
_WIDTH = max(map(len, get_args(Verdict)))


def ledger_text(judgements: Iterable[Judgement], *, verbose: bool = False) -> str:
    """The ledger as aligned text.

    Args:
        verbose: Also the rules, and each part of every judgement that was run at least in part,
            with its number and interval and what is missing.
    """
    judgements = list(judgements)
    lines = []
    for claim, mine in _by_claim(judgements):
        room = max(len(judgement.where) for judgement in mine)
        lines += ["", f"{claim.id:<4} {claim.statement} ({claim.section})"]
        if verbose:
            lines.append(f"     measure: {claim.measure}; supported if: {claim.rule}")
            lines += [f"     {note}"] if (note := _amendment(claim)) else []
        for judgement in mine:
            begun = any(part.verdict != "not run" for part in judgement.parts)
            if not begun or (judgement.verdict == "not run" and not verbose):
                continue
            head = f"     {judgement.verdict:<{_WIDTH}}  {judgement.where:<{room}}"
            if verbose:
                lines += [head + _before(judgement), *map(_part_text, judgement.parts)]
            else:
                lines.append(f"{head}  {_what(judgement.decisive)}{_before(judgement)}")
        absent = not_run(mine)
        lines += [f"     {'not run':<{_WIDTH}}  {absent}"] if absent else []
    lines += ["", history(judgements)]
    return "\n".join(line.rstrip() for line in lines).lstrip("\n")


def ledger_overview(judgements: Iterable[Judgement], pages: Collection[str]) -> str:
    """The ledger at a glance, as Markdown: a mark a verdict, one row a claim, a column a data set.

    A cell has a place for each gradient regime, in the order of ``recipes.REGIMES``, and a line for
    each of its variants, normalisations say, whose verdicts differ.

    Args:
        pages: The book's pages, as in ``_toc.yml``; only these are linked.
    """
    judgements = list(judgements)
    legend = ", ".join(f"{badge(word, mark)} {word}" for word, mark in MARKS.items())
    leaning = " and ".join(badge("inconclusive", f"?{arrow}") for arrow in _LEANS.values())
    # What a page proves or counts needs no data: identities, costs.
    columns = {"": "without data"} | {name: data.words for name, data in DATASETS.items()}
    lines = [
        f"{legend}. {leaning} lean with and against the paper, by their own interval, but not "
        "after the correction for their number. Three marks side by side are three gradient "
        f"regimes: {', '.join(REGIMES.values())}. Point at a mark to read its number. "
        f"{tally(judgements)}",
        "",
        f"| claim | the paper says | {' | '.join(columns.values())} |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for claim, mine in _by_claim(judgements):
        cells = [_cell([f for f in mine if f.dataset == dataset]) for dataset in columns]
        lines.append(f"| {_link(claim, pages)} | {claim.statement} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ledger_table(judgements: Iterable[Judgement], pages: Collection[str]) -> str:
    """The ledger with its numbers as a Markdown table, one row a claim.

    A row counts its verdicts; the sentences behind them are folded away where they are several.
    """
    judgements = list(judgements)
    lines = [history(judgements), ""]
    lines += ["| claim | the paper says | and our runs say |", "|---|---|---|"]
    for claim, mine in _by_claim(judgements):
        says = f"{claim.statement} ({claim.section})"
        says += f"<br>*{note}*" if (note := _amendment(claim)) else ""
        lines.append(f"| {_link(claim, pages)} | {says} | {_folded(mine)} |")
    return "\n".join(lines)


def tally(judgements: Iterable[Judgement]) -> str:
    """How many claims hold wherever they were run, how many nowhere, and how many here and there.

    A claim holds where all its verdicts support it, and does not where all contradict it.
    """
    verdicts = {
        claim.id: {f.verdict for f in mine} - {"not run"} for claim, mine in _by_claim(judgements)
    }
    found = list(verdicts.values())
    everywhere, absent = found.count({"supported"}), found.count(set())
    nowhere = [id for id, mine in verdicts.items() if mine == {"contradicted"}]
    others = len(found) - everywhere - len(nowhere) - absent
    which = f" ({', '.join(nowhere)})" if nowhere else ""
    return (
        f"Claims that hold wherever they were run: {everywhere} of {len(found)}; nowhere: "
        f"{len(nowhere)}{which}; inconclusive, or differing by data set, regime or variant: "
        f"{others}; not run: {absent}."
    )


def history(judgements: Iterable[Judgement]) -> str:
    """What was changed after the rules were fixed, and how many verdicts that changed."""
    run = [f for f in judgements if "not run" not in (f.verdict, f.original)]
    changed = sum(f.verdict != f.original for f in run)
    taken = sum(f.verdict != f.uncorrected for f in run)
    dates: dict[str, list[str]] = {}
    for claim in CLAIMS.values():
        if claim.amendment:
            dates.setdefault(claim.amendment.date, []).append(claim.id)
    amended = "; ".join(f"{', '.join(ids)} on {date}" for date, ids in dates.items())
    return (
        f"Rules were fixed before any run. Amended since: {amended}. The number of seeds was not: "
        "on photographs it was raised from three, to up to eight on frozen features and to up to "
        "five end to end, comparison by comparison, when first verdicts were known. Verdicts are "
        "corrected for "
        f"their number by Holm's method, over those on one data set under one regime; that leaves "
        f"{taken} inconclusive. In all, {changed} of {len(run)} verdicts shown here differ from "
        f"those by the rules as first written; both are shown.{_made_again(run)}"
    )


def _made_again(judgements: Iterable[Judgement]) -> str:
    """What new runs have changed, by ``experiments/verdicts_before.yaml``; "" without one."""
    file = records_folder().parent / "verdicts_before.yaml"
    if not file.is_file():
        return ""
    before = yaml.safe_load(file.read_text(encoding="utf-8"))
    old = {tuple(key): verdict for *key, verdict in before["verdicts"]}
    both = {
        (f.claim, f.gradient, f.variant): f for f in judgements if f.dataset == before["dataset"]
    }
    both = {key: f for key, f in both.items() if key in old}
    if not both:
        return ""
    # A rule that was amended later is not what the runs have changed.
    later = {c.id for c in CLAIMS.values() if c.amendment and c.amendment.date >= before["date"]}
    now = {key: f.original if f.claim in later else f.verdict for key, f in both.items()}
    others = [
        f"{f.claim} with {f.where.partition(', ')[2]} from {old[key]} to {now[key]}"
        for key, f in both.items()
        if now[key] != old[key]
    ]
    return (
        f" On {before['date']} {before['change']}: {len(others)} of {len(both)} verdicts became "
        f"others{': ' * bool(others)}{'; '.join(others)}."
    )


def answer(*ids: str, evidence: Sequence[Evidence] | None = None) -> str:
    """What our runs say of some claims, as Markdown for the top of a page.

    For each claim what the paper says, then a sentence a verdict: where, the number with its
    interval, seeds; then what was not run.

    Args:
        evidence: Default: this checkout's committed evidence.

    Raises:
        InputError: There is no such claim.
    """
    blocks = []
    for claim, mine in _by_claim(judge(load_evidence() if evidence is None else evidence, ids)):
        heading = f"**{claim.id}** ({claim.section}): *{claim.statement}.*\n"
        blocks.append("\n".join([heading, *(f"- {words}" for words in _sentences(mine))]))
    return "\n\n".join(blocks)


def decided_here(page: str) -> str:
    """The claims that a page decides, with their rules, as a Markdown list.

    Raises:
        InputError: The page decides none.
    """
    ids = of_page(page)
    if not ids:
        raise InputError(f"no claim is decided on page {page!r}; see claims.CLAIMS")
    # What a notebook prints as Markdown cannot hold a table in the book.
    lines = ["By rules fixed before any run, and amended only where it says so:", ""]
    for claim in map(CLAIMS.__getitem__, ids):
        how = f"*Measure*: {claim.measure}. *Supported if*: {claim.rule}."
        how += f" *{note}*" if (note := _amendment(claim)) else ""
        lines.append(f"- **{claim.id}**: {claim.statement}. {how}")
    return "\n".join(lines)


def of_page(page: str) -> tuple[str, ...]:
    """Ids of the claims that a page decides."""
    return tuple(claim.id for claim in CLAIMS.values() if claim.page == page)


def badge(verdict: Verdict, shown: str = "", *, title: str = "") -> str:
    """A verdict, or what is shown for it, in a box that the book's style sheet colours."""
    title = escape(title)
    more = f' role="img" aria-label="{title}" title="{title}"' if title else ""
    return f'<span class="verdict {verdict.replace(" ", "-")}"{more}>{shown or verdict}</span>'


def marks(judgements: Iterable[Judgement]) -> str:
    """Verdicts as marks in coloured boxes, which name their judgements when pointed at.

    Judgements with the same verdict share a mark.
    """
    titles: dict[tuple[Verdict, str], list[str]] = {}
    for judgement in judgements:
        titles.setdefault((judgement.verdict, _mark(judgement)), []).append(_words(judgement))
    return "".join(
        badge(verdict, mark, title=f"{verdict}: {'; '.join(words)}")
        for (verdict, mark), words in titles.items()
    )


def not_run(judgements: Iterable[Judgement]) -> str:
    """Where a claim is not decided for want of runs, and how many seeds are there; "" if nowhere.

    Regimes and variants of one data set are named only where some of them were run.
    """
    judgements = list(judgements)
    absent = [f for f in judgements if f.verdict == "not run"]
    words: dict[str, None] = {}
    for judgement in absent:
        there = [f.decisive.seeds for f in absent if f.dataset == judgement.dataset]
        whole = all(f.verdict == "not run" for f in judgements if f.dataset == judgement.dataset)
        needed, short = judgement.decisive.needed, judgement.missing
        if needed:
            short = f"{max(there) if whole else judgement.decisive.seeds} of {needed} seeds"
        name = judgement.data if whole else judgement.where
        words[f"{name} ({short})" if name else short] = None
    return "; ".join(words)


def _by_claim(judgements: Iterable[Judgement]) -> Iterator[tuple[Claim, list[Judgement]]]:
    for id, group in groupby(judgements, key=lambda judgement: judgement.claim):
        yield CLAIMS[id], list(group)


def _link(claim: Claim, pages: Collection[str]) -> str:
    page = f"notebooks/{claim.page}"
    return f"[{claim.id}]({page}.ipynb)" if page in pages else claim.id


def _cell(judgements: list[Judgement]) -> str:
    if not judgements:
        return ""
    places = REGIMES if any(judgement.gradient for judgement in judgements) else ("",)
    variants: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        variants.setdefault(judgement.variant, []).append(judgement)
    lines: dict[tuple[str, ...], list[str]] = {}
    for variant, mine in variants.items():
        there = {judgement.gradient: _mark(judgement) for judgement in mine}
        lines.setdefault(tuple(there.get(place, "") for place in places), []).append(variant)
    cell = []
    for names in lines.values():
        mine = [judgement for name in names for judgement in variants[name]]
        shown = [marks(f for f in mine if f.gradient == place) for place in places]
        row = "".join(f'<span class="place">{mark}</span>' for mark in shown)
        name = f'<span class="variant">{escape(", ".join(names))}</span>' * (len(lines) > 1)
        cell.append(f'{name}<span class="marks">{row}</span>')
    return "".join(cell)


def _mark(judgement: Judgement) -> str:
    """Its verdict's, with an arrow where the correction alone leaves it open."""
    taken_back = judgement.verdict != judgement.uncorrected
    return MARKS[judgement.verdict] + (_LEANS[judgement.uncorrected] if taken_back else "")


def _sentences(judgements: list[Judgement]) -> list[str]:
    """Verdict, where, what, number, interval, seeds of what was run; one for all that was not."""
    run = [f"{badge(f.verdict)} {_words(f)}" for f in judgements if f.verdict != "not run"]
    absent = not_run(judgements)
    return [*run, f"{badge('not run')} {absent}"] if absent else run


def _folded(judgements: list[Judgement]) -> str:
    """Sentences for a table's cell; several under a line that says how many of each verdict."""
    sentences = "<br>".join(_sentences(judgements))
    counts = Counter(judgement.verdict for judgement in judgements)
    if counts.total() == 1:
        return sentences
    found = [word for word in get_args(Verdict) if counts[word]]
    summary = " ".join(f'<span class="count">{badge(word)} {counts[word]}</span>' for word in found)
    return f'<details class="fold"><summary>{summary}</summary>{sentences}</details>'


def _what(part: Part) -> str:
    seeds = f", {part.seeds} seeds" if part.seeds and not part.missing else ""
    return f"{part.what}: {part.number}{seeds}"


def _before(judgement: Judgement) -> str:
    """The verdicts by the rule as first written and before the correction; "" if neither is new."""
    notes = []
    if judgement.first:
        notes.append(f"by the rule as first written: {judgement.original}")
    if judgement.verdict != judgement.uncorrected:
        notes.append(
            f"{judgement.uncorrected} before the correction by Holm's method, "
            f"p = {judgement.p:.2g} → {judgement.adjusted:.2g}"
        )
    return f" ({'; '.join(notes)})" if notes else ""


def _amendment(claim: Claim) -> str:
    if (change := claim.amendment) is None:
        return ""
    return f"Amended {change.date}: supported if {change.rule}. Why: {change.reason}."


def _part_text(part: Part) -> str:
    note = "" if part.decides else " (shown beside)"
    return f"         {part.verdict:<{_WIDTH}}  {_what(part)}{note}"


def _words(judgement: Judgement) -> str:
    part, deciding = judgement.decisive, [p for p in judgement.parts if p.decides]
    text = f"{judgement.where}: {_what(part)}" if judgement.where else _what(part)
    same = sum(p.verdict == judgement.uncorrected for p in deciding)
    if len(deciding) > 1 and same == len(deciding) and judgement.uncorrected == "supported":
        many = np.isnan(part.interval[0])
        text += f"; {same - 1} further parts agree" if many else f"; the weakest of {same} parts"
    elif len(deciding) > 1:
        text += f"; {same} of {len(deciding)} parts {judgement.uncorrected}"
    return text + _before(judgement)
