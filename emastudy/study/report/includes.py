"""Results that README and the book's pages include, made from records."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import yaml

from emastudy.errors import InputError
from emastudy.files import write_text, written_whole
from emastudy.study.claims import DATASETS, judge, load_evidence
from emastudy.study.figures.charts import use_style
from emastudy.study.figures.comparisons import leads_by_data
from emastudy.study.recipes import METHODS, PAPER_CLASSES, RECIPES, animals, name_methods, recipe
from emastudy.study.report import findings
from emastudy.study.report.ledger import ledger_overview, ledger_table
from emastudy.study.runs import Record, load_records, records_folder
from emastudy.study.statistics import as_text, paired_differences, summarize
from emastudy.study.tables import audits, estimate
from emastudy.study.tables.accuracy import all_methods, both_starts, gaps, table1_runs

#: Between these lines README states findings.
README_MARKERS = ("<!-- findings -->", "<!-- /findings -->")


def write_includes(records: Path, folder: Path) -> None:
    """Write what pages include: the ledger, at a glance and in full, the findings, and EMA's leads
    on all data sets, from the committed ``experiments/records``; and estimates of cost.
    """
    experiments = records.parent
    verdicts = judge(load_evidence(experiments))
    pages = book_pages(experiments.parent / "book" / "_toc.yml")
    texts = {
        "overview": ledger_overview(verdicts, pages),
        "ledger": ledger_table(verdicts, pages),
        "estimates": estimates_table(),
        **findings_includes(experiments),
    }
    for name, text in texts.items():
        write_text(folder / f"{name}.md", text + "\n")
    use_style()
    figure = leads_by_data(leads_everywhere("FCN", "Non-local", "DeepLabV3+", records=records))
    with written_whole(folder / "leads.svg") as path:
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def findings_includes(experiments: Path) -> dict[str, str]:
    """What the book includes of the findings: name of the file → text."""
    return {
        "main_findings": findings.main_findings(experiments, "notebooks/{page}.ipynb"),
        "findings": findings.all_findings(experiments),
        "first_result": headline(experiments / "records" / "animals"),
    }


def readme_with_findings(readme: str, experiments: Path) -> str:
    """README's text with the findings between its markers made anew from the committed records."""
    start, end = (readme.find(marker) for marker in README_MARKERS)
    if start < 0 or end < start:
        raise InputError(f"README.md lacks the lines {' and '.join(README_MARKERS)}")
    text = findings.main_findings(experiments, "experiments/{page}.ipynb")
    return f"{readme[: start + len(README_MARKERS[0])]}\n\n{text}\n\n{readme[end:]}"


def book_pages(toc: Path) -> list[str]:
    """The pages that a book's ``_toc.yml`` lists, parts flattened."""
    parts = yaml.safe_load(toc.read_text(encoding="utf-8"))["parts"]
    return [chapter["file"] for part in parts for chapter in part["chapters"]]


def headline(records: Path) -> str:
    """The study's first result as a Markdown table: the animals runs, best first.

    Below it how runs of it that were trained anew compare, if some were.
    """
    seeds = DATASETS["animals"].recorded
    methods = all_methods(animals, seeds=seeds) | both_starts(animals, seeds=seeds)
    runs = name_methods(load_records(records), methods)
    summary = summarize(runs, "method", "miou").sort_values("mean", ascending=False)
    differences = paired_differences(runs, "method", "miou", baseline="FCN")
    lines = [
        "| context module | mIoU, % [95 % interval] | against FCN, paired by seed | seeds |",
        "|---|---|---|---|",
    ]
    for method, row in summary.iterrows():
        against = as_text(differences.T[method]) if method in differences.index else "-"
        interval = f"[{row['low']:.2f}, {row['high']:.2f}]"
        lines.append(
            f"| {method} | {row['mean']:.2f} {interval} | {against} | {row['seeds']:.0f} |"
        )
    if any((records / "audit").glob("*.json")):
        folders = {"animals": records}
        (found,) = audits.summary(folders, audits.load(folders)).to_dict("records")
        lines += [
            "",
            f"Runs on these data that were trained again: {found['trained anew']} of "
            f"{found['records']}; largest distance from the record: "
            f"{found['largest difference']:.2f} mIoU; standard deviation over seeds: "
            f"{found['standard deviation over seeds']:.2f}. Intervals are over seeds alone.",
        ]
    return "\n".join(lines)


def leads_everywhere(*rivals: str, records: Path | None = None) -> pd.DataFrame:
    """What EMA has over rivals on each data set of the ledger, in words as "data".

    Args:
        rivals: Labels of methods.
        records: Folder of the profiles' records; default this checkout's.

    Returns:
        See ``tables.accuracy.gaps``; only of data sets that have runs of some rival.
    """
    records = records or records_folder()
    whole = [method for method in METHODS.values() if method.width == 1]
    names = "; ".join(m.label for m in whole if m.head == "ema" or m.label in rivals)
    tables = []
    for name, data in DATASETS.items():
        asked = table1_runs(recipe(name), seeds=data.recorded, only=names)
        runs = name_methods(load_records(records / name), asked)
        if len(runs) and runs["head"].nunique() > 1:
            tables.append(gaps(runs).assign(data=data.words))
    if not tables:
        raise InputError(f"no run of EMA and of {' or '.join(rivals)} is recorded in {records}")
    return pd.concat(tables, ignore_index=True)


def estimates_table() -> str:
    """What the paper's recipes cost, as a Markdown table."""
    lines = [
        "| recipe | 10¹⁵ multiply-adds | hours, GiB on 1 GPU | hours, GiB on 4 GPUs |",
        "|---|---|---|---|",
    ]
    for name, classes in PAPER_CLASSES.items():
        each = [estimate(RECIPES[name](), num_classes=classes, gpus=n) for n in (1, 4)]
        cells = [f"{one.hours:.1f}, {one.memory / 2**30:.1f}" for one in each]
        lines.append(f"| `{name}` | {each[0].macs / 1e15:.3g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def circumstances_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Machine, versions, commit and cost of runs, one row per kind of circumstance."""
    records: list[Record] = list(runs["record"])
    created, minutes = [r.created for r in records], runs["seconds"] / 60

    def every(of: Callable[[Record], object]) -> str:
        return ", ".join(sorted({str(of(record)) for record in records}))

    rows = {
        "processor": every(lambda r: r.machine["processor"]),
        "cores, threads per run": every(lambda r: f"{r.machine['cores']}, {r.machine['threads']}"),
        "precision": every(lambda r: r.machine["precision"]),
        "versions": every(lambda r: ", ".join(f"{k} {v}" for k, v in r.versions.items())),
        "commit of the source": every(lambda r: r.commit),
        "runs": str(len(records)),
        "minutes of training per run": f"{minutes.min():.1f} to {minutes.max():.1f}",
        "recorded": f"{min(created)} to {max(created)}",
    }
    return pd.DataFrame({"": rows}).rename_axis("circumstances")
