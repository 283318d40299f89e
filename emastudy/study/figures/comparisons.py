"""The comparisons' figures: scores of methods, training losses, published tables."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emastudy.study.figures import charts
from emastudy.study.statistics import summarize


def scores(runs: pd.DataFrame, *, xlabel: str, title: str = "", line: float = 0.42) -> None:
    """Every method's mean with its interval, and its single runs, the best first."""
    size = (6.4, line * runs["method"].nunique() + 0.8)
    score_panels({title: runs}, "method", xlabel=xlabel, size=size)


def score_panels(
    parts: Mapping[str, pd.DataFrame],
    by: str,
    *,
    order: Sequence[str] | None = None,
    xlabel: str,
    size: tuple[float, float],
    title: str = "",
    stacked: bool = False,
    in_view: bool = False,
) -> None:
    """Scores of several kinds, side by side or, ``stacked``, with one axis of scores.

    See :func:`charts.runs_and_means`.

    Args:
        order: From top to bottom; default: the best of the first kind first.
    """
    if order is None:
        means = summarize(next(iter(parts.values())), by, "miou")["mean"]
        order = list(means.sort_values(ascending=False).index)
    rows, columns = (len(parts), 1) if stacked else (1, len(parts))
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=stacked, sharey=not stacked, squeeze=False
    )
    for ax, (name, runs) in zip(axes.flat, parts.items(), strict=True):
        last = ax is axes.flat[-1]
        label = "" if stacked and not last else xlabel
        charts.runs_and_means(runs, by, ax=ax, xlabel=label, order=order)
        ax.set_title(name)
        if in_view:
            charts.keep_in_view(ax, runs["miou"])
    if title:
        figure.suptitle(title)


def tradeoff(runs: pd.DataFrame, costs: pd.DataFrame, title: str) -> None:
    """Score against the head's cost, see :func:`charts.tradeoff`.

    Args:
        costs: Index = method, see ``tables.accuracy.head_costs``.
    """
    _, ax = plt.subplots(figsize=(8, 4.4))
    charts.tradeoff(
        summarize(runs, "method", "miou").assign(cost=costs["mmacs"]),
        ax=ax,
        xlabel="multiply-adds of the head on one image, millions",
        ylabel="mIoU, %, single scale",
        family="EMA",
    )
    ax.set_title(f"Accuracy against the head's cost: {title}")


def starts(parts: Mapping[str, pd.DataFrame], *, xlabel: str, size: tuple[float, float]) -> None:
    """Means of blocks with their intervals: a panel a data set, a colour for each start.

    Args:
        parts: Name → runs with "block", "start" and "miou", see ``tables.accuracy.by_start``.
    """
    blocks = list(pd.concat(parts.values())["block"].unique())
    figure, axes = plt.subplots(1, len(parts), figsize=size, sharey=True, squeeze=False)
    for ax, (name, runs) in zip(axes.flat, parts.items(), strict=True):
        for number, (start, some) in enumerate(runs.groupby("start")):
            means = summarize(some, "block", "miou").reindex(blocks)
            heights = [0.12 - 0.24 * number - row for row in range(len(blocks))]
            ax.hlines(heights, means["low"], means["high"], color=f"C{number}", alpha=0.5)
            ax.plot(means["mean"], heights, "o", color=f"C{number}", label=start)
        ax.set(title=name.replace(", ", ",\n"), xlabel=xlabel)
        ax.set_yticks([-row for row in range(len(blocks))], blocks)
        charts.keep_in_view(ax, runs["miou"])
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside right upper")


def losses(curves: pd.DataFrame, *, title: str = "", start: int | None = None) -> None:
    """Every run's training loss, smoothed over five points, 50 iterations; a colour a method."""
    _, ax = plt.subplots()
    sns.lineplot(
        curves, x="iteration", y="loss", hue="method", units="seed", estimator=None, ax=ax, lw=1
    )
    ax.set(ylabel="cross-entropy, nats, mean of 50 iterations", ylim=(0, None), title=title)
    if start is not None:
        ax.set_xlim(start, None)


def paces(runs: pd.DataFrame, title: str) -> None:
    """Score against the column "learning rate", one line a method."""
    _, ax = plt.subplots(figsize=(6.4, 4))
    labels = {"xlabel": "learning rate", "ylabel": "mIoU, %, single scale"}
    charts.lines(runs, "learning rate", "miou", "method", ax=ax, **labels)
    rates = sorted(runs["learning rate"].unique())
    ax.set_xscale("log")
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.minorticks_off()
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1))
    ax.set_title(title)


def growth(times: pd.DataFrame, memory: pd.DataFrame, x: str, title: str) -> None:
    """Time and peak memory of the attention modules, with fits: see ``counting.growth``."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    label = "time, ms (median)"
    charts.power_laws(times, x, "milliseconds", "module", ax=left, xlabel=x, ylabel=label)
    charts.power_laws(memory, x, "MiB", "module", ax=right, xlabel=x, ylabel="peak memory, MiB")
    figure.suptitle(title)


def published(table: pd.DataFrame, title: str) -> None:
    """A table of ``published`` as a ranking; EMANet in colour."""
    _, ax = plt.subplots(figsize=(7.2, 0.27 * len(table) + 1.1))
    _ranking(table.reset_index(), ax=ax, xlabel="published mIoU, %")
    ax.set_title(title)


def reimplementations(table: pd.DataFrame) -> None:
    """What others' code got on VOC val, one ranking a code base."""
    voc = table[table["dataset"] == "VOC val"]
    figure, axes = plt.subplots(1, voc["code"].nunique(), figsize=(10, 3.6), squeeze=False)
    for ax, (code, part) in zip(axes[0], voc.groupby("code", sort=False), strict=True):
        _ranking(part, ax=ax, xlabel="mIoU on VOC val, single scale, %")
        ax.set_title(code)
    figure.suptitle("EMANet in other people's code: PASCAL VOC 2012 val")


def _ranking(table: pd.DataFrame, *, ax: Axes, xlabel: str) -> None:
    kinds = zip(table["method"], table["backbone"], strict=True)
    labels = [f"{method} ({backbone})" if backbone else method for method, backbone in kinds]
    charts.ranking(
        table["miou"].set_axis(labels),
        ax=ax,
        xlabel=xlabel,
        own=list(table["method"] == "EMANet"),
        sure=list(table["confidence"] == "confirmed"),
    )


def chain(curves: pd.DataFrame, runs: pd.DataFrame) -> None:
    """Runs that start from one another: their losses one after the other, and their scores."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(2, 1))
    begins = runs.groupby("step")["iterations"].first().cumsum().shift(fill_value=0)
    for number, (step, begin) in enumerate(begins.items()):
        for _, part in curves[curves["step"] == step].groupby("seed"):
            (line,) = left.plot(
                part["iteration"] + begin, part["loss"], ".-", color=f"C{number}", lw=1
            )
        line.set_label(f"run {step}")
    left.set(xlabel="iteration, runs one after the other", ylabel="cross-entropy, nats")
    left.legend()
    steps = "run " + runs["step"].astype(str)
    charts.runs_and_means(
        runs.assign(run=steps), "run", ax=right, xlabel="mIoU, %", order=list(steps.unique())
    )
    charts.keep_in_view(right, runs["miou"])
    seeds = charts.number_of_seeds(runs)
    figure.suptitle(f"Three runs, each from the last one's weights: scenes, {seeds}")


def leads_by_data(leads: pd.DataFrame) -> Figure:
    """A panel a rival: the lead of every method over it on each data set that it was run on."""
    rivals, data = list(leads["rival"].unique()), leads["data"].unique()
    height = 0.9 + 0.75 * len(data)
    figure, axes = plt.subplots(1, len(rivals), figsize=(7.4, height), sharey=True, squeeze=False)
    for ax, rival in zip(axes[0], rivals, strict=True):
        part = leads[leads["rival"] == rival]
        part = part.assign(rival=pd.Categorical(part["data"], categories=data))
        charts.leads(part, ax=ax, xlabel=f"mIoU above {rival}")
    for ax in axes[0]:
        ax.get_legend().remove()
    # Beneath, so that the text is still readable on a phone.
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def changes(differences: pd.DataFrame, xlabel: str) -> Figure:
    """One line a change: its difference with the 95 % interval, zero drawn."""
    figure, ax = plt.subplots(figsize=(8, 0.8 + 0.36 * len(differences)))
    summary = differences.rename(columns={"difference": "mean"})
    charts.intervals(summary, ax=ax, xlabel=xlabel)
    ax.axvline(0, color="0.3", lw=1)
    return figure
