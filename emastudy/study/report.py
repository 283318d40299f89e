"""Tables that pages and README share, made from records.

Floor: study.
"""

from pathlib import Path

import pandas as pd

from emastudy.study.records import load_records
from emastudy.study.statistics import paired_differences, summarize

_NAMES = {"fcn": "FCN", "non_local": "Non-local"}
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
            difference, low, high = differences[["difference", "low", "high"]].loc[[method]].iloc[0]
            against = f"{difference:+.2f} [{low:+.2f}, {high:+.2f}]"
        lines.append(
            f"| {method} | {row['mean']:.2f} | [{row['low']:.2f}, {row['high']:.2f}] | {against} "
            f"| {row['seeds']:.0f} |"
        )
    return "\n".join(lines)


def write_includes(records: Path, folder: Path) -> None:
    """Write the tables that prose pages include, from the committed records.

    Args:
        records: ``experiments/records``.
        folder: Where the pages look for them, ``book/generated``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "headline.md").write_text(headline(records / "animals") + "\n")
