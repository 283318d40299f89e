"""What the bases know of the classes, and how many different ones there are: tables.

``measured`` is what ``measures.concepts`` found, or, for :func:`distinct_courses`, ``distinct``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from emastudy.study.statistics import mean_interval, summarize_columns


class Service(NamedTuple):
    """Which classes the bases serve."""

    usage: Float[np.ndarray, " bases"]  #: Share of the pixels that each basis takes.
    #: Share of each class among a basis' pixels; zero for a basis that takes none.
    classes: Float[np.ndarray, "bases classes"]
    everywhere: Float[np.ndarray, " classes"]


def service(counts: Any) -> Service:
    """Which classes the bases serve, from pixels by basis and class."""
    table = np.array(counts, dtype=float)
    taken, total = table.sum(axis=1), table.sum()
    return Service(taken / total, table / taken.clip(1)[:, None], table.sum(axis=0) / total)


def entropy(maps: pd.DataFrame) -> pd.DataFrame:
    """By how many bases a pixel is shared, after every iteration: mean over the images drawn."""
    nats = np.array(maps["entropy"].tolist()).mean(axis=0)
    columns = {"mean entropy of z, nats": nats, "as number of bases": np.exp(nats)}
    return pd.DataFrame(columns, pd.RangeIndex(1, len(nats) + 1, name="iteration"))


def courses(measured: pd.DataFrame) -> pd.DataFrame:
    """Information on the classes after every iteration, one row a run, start and iteration.

    Returns:
        "gradient", "λ", "seed", "start" ("trained" or "random"), "iteration" and "information",
        nats.
    """
    starts = {
        start: _by_iteration(measured.assign(information=measured[column]), "information", 1)
        for start, column in (("trained", "information"), ("random", "random_bases"))
    }
    columns = ["gradient", "λ", "seed", "start", "iteration", "information"]
    return pd.concat(starts, names=["start"]).reset_index("start")[columns]


def ends(measured: pd.DataFrame) -> pd.DataFrame:
    """:func:`courses` from the trained start, first and last iteration, with "after" in words."""
    found = courses(measured).query("start == 'trained'")
    found = found[found["iteration"].isin([1, found["iteration"].max()])]
    return found.assign(after="after iteration " + found["iteration"].astype(str))


def information(measured: pd.DataFrame) -> pd.DataFrame:
    """Information after the last iteration by regime and start or control, over seeds."""
    numbers = measured.assign(
        random_start=measured["random_bases"].str[-1],
        share=100 * measured["matched"] / measured["entropy"],
    )
    columns = {
        "matched": "trained start",
        "random_start": "random start",
        "shuffled": "renumbered per image",
        "share": "trained, % of all there is",
    }
    table = summarize_columns(numbers, "head.gradient", columns)
    return table.rename_axis(["gradient", "information, nats"])


def change_by_concentration(measured: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of the information after the first and the last iteration and its change.

    By regime and λ; with the change's 95 % t-interval.
    """
    found = courses(measured).query("start == 'trained'").sort_values("iteration")
    by_run = found.groupby(["gradient", "λ", "seed"], sort=False)
    runs = by_run["information"].agg(["first", "last"])
    runs["change"] = runs["last"] - runs["first"]
    settings = runs.groupby(["gradient", "λ"], sort=False)
    ends = [mean_interval(changes)[1:] for _, changes in settings["change"]]
    table = settings.mean()
    table["low, 95 %"], table["high, 95 %"] = zip(*ends, strict=True)
    return table.assign(seeds=settings.size().astype(float))


def both_counts(measured: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Information after the first and the last iteration, by several ways of counting pixels.

    "random start" is the last one from random bases, the rest :func:`change_by_concentration`.

    Args:
        measured: Way of counting, in words → ``measures.concepts`` or ``measures.soft_concepts``.
    """
    tables = {}
    for words, rows in measured.items():
        table = change_by_concentration(rows).droplevel("λ").drop(columns="seeds")
        random = rows["random_bases"].str[-1].groupby(rows["head.gradient"], sort=False).mean()
        table.insert(2, "random start", random)
        tables[words] = table
    return pd.concat(tables, names=["a pixel counts for"]).swaplevel().sort_index(level=0)


def sorted_usage(measured: pd.DataFrame) -> dict[str, Float[np.ndarray, " bases"]]:
    """Regime → share of the pixels that every basis takes, the most used first, mean over seeds."""
    return {
        str(regime): np.mean([np.sort(service(one).usage)[::-1] for one in part["counts"]], axis=0)
        for regime, part in measured.groupby("head.gradient", sort=False)
    }


def distinct_courses(measured: pd.DataFrame) -> pd.DataFrame:
    """Number of "distinct" bases after every "iteration" (0 = before the first) of every run."""
    return _by_iteration(measured, "distinct", 0)[["gradient", "seed", "iteration", "distinct"]]


def _by_iteration(measured: pd.DataFrame, column: str, first: int) -> pd.DataFrame:
    """A column of lists, one value an iteration, as one row a value."""
    names = {"head.gradient": "gradient", "head.concentration": "λ"}
    long = measured.rename(columns=names).reset_index(drop=True).explode(column)
    iteration = first + long.groupby(level=0).cumcount()
    return long.assign(iteration=iteration, **{column: long[column].astype(float)})


def starts(measured: pd.DataFrame) -> pd.DataFrame:
    """Theorem 8 for trained networks: what it predicts of the shared start, beside what is there.

    Returns:
        Of ``measures.start`` by regime: "networks", "λ / threshold" (median: below 1 a start with
        all bases in one place stays there), "places" (mean; a basis counts 1/members), "of those in
        groups, growth < 1" and "of those alone, growth > 1": shares of the bases, pooled over the
        networks; NaN where there are none.
    """
    rows = {}
    for regime, part in measured.groupby("head.gradient", sort=False):
        members, growth = (np.concatenate(part[name].tolist()) for name in ("members", "growth"))
        grouped, alone = growth[members > 1], growth[members == 1]
        rows[regime] = {
            "networks": len(part),
            "λ / threshold": (part["concentration"] / part["threshold"]).median(),
            "places": float((1 / members).sum() / len(part)),
            "of those in groups, growth < 1": (grouped < 1).mean() if len(grouped) else np.nan,
            "of those alone, growth > 1": (alone > 1).mean() if len(alone) else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("gradient")


def network_summary(metrics: Mapping[str, float], concepts: pd.Series) -> pd.DataFrame:
    """The network of a page in a few lines."""
    rows = {
        "run": concepts["id"],
        "mIoU on the scored images, %": round(metrics["miou"], 2),
        "bases K": len(concepts["counts"]),
        "iterations T": len(concepts["information"]),
        "gradient": concepts["head.gradient"],
    }
    return pd.Series(rows, name="the network").to_frame()
