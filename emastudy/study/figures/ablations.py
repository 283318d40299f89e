"""The ablations' figures: normalisation, start, iterations, number of bases, concentration.

``panels`` are, by an option's column, what to call it and the runs with its values.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from emastudy import em
from emastudy.study.figures import charts

_SCORE = "mIoU, %"


def by_iterations(
    runs: pd.DataFrame, hue: str, *, order: Sequence[str], regimes: Sequence[str], title: str
) -> None:
    """Score against T, one panel a gradient regime."""
    labels: dict[str, Any] = {"xlabel": "EM iterations T", "ylabel": _SCORE}
    figure = charts.regime_lines(
        runs, "T", "miou", hue, order=order, regimes=regimes, height=3.8, **labels
    )
    low, high = runs["miou"].min(), runs["miou"].max()
    figure.axes[0].set_ylim(low - 0.2 * (high - low + 1), high + 0.2 * (high - low + 1))
    figure.suptitle(f"{title}, {charts.number_of_seeds(runs)}: means with 95 % t-intervals")


def objective_traces(
    objectives: Mapping[tuple[float, str], Float[Tensor, "problems steps"]],
) -> None:
    """F against the iteration, a row of panels a λ: blue never falls, orange at least once.

    At most twenty problems of either kind are drawn; all are counted.
    """
    rows = sorted({concentration for concentration, _ in objectives})
    columns = list(dict.fromkeys(normalization for _, normalization in objectives))
    size = (2.75 * len(columns), 2.3 * len(rows))
    _, axes = plt.subplots(len(rows), len(columns), figsize=size, sharex=True, squeeze=False)
    for row, concentration in zip(axes, rows, strict=True):
        for ax, normalization in zip(row, columns, strict=True):
            objective = objectives[concentration, normalization]
            falls = em.falls(objective).any(dim=1)
            ax.plot(objective[~falls].T[:, :20], color="C0", alpha=0.3)
            if falls.any():
                ax.plot(objective[falls].T[:, :20], color="C1", alpha=0.3)
            setting = f"{normalization}, λ = {concentration:.0f}"
            ax.set_title(f"{setting}:\nfalls in {falls.sum()} of {len(falls)}")
        row[0].set_ylabel("F(μ), nats")
    for ax in axes[-1]:
        ax.set_xlabel("iteration")


def starts(runs: pd.DataFrame, regimes: Sequence[str], title: str) -> None:
    """Every start's mIoU, the best first, one panel a gradient regime."""
    figure, parts = charts.panels(runs, regimes, width=5.2, height=3.8, sharey=False)
    for ax, _, part in parts:
        charts.runs_and_means(part, "start", ax=ax, xlabel=_SCORE)
    seeds = charts.number_of_seeds(runs)
    figure.suptitle(f"{title}, T = 3, {seeds}: means with 95 % t-intervals")


def instability(runs: pd.DataFrame, colors: Mapping[str, str]) -> None:
    """Loss, and gradient that reaches the bases, of every run from one of the coloured starts."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for start, record in zip(runs["start"], runs["record"], strict=True):
        if start in colors:
            _curve(left, record.curves.get("loss"), colors[start])
            _curve(right, record.curves.get("bases_gradient"), colors[start])
    for start, color in colors.items():
        left.plot([], [], color=color, label=start)
    left.legend()
    left.set(xlabel="iteration", ylabel="cross-entropy, nats", title="training loss, unrolled")
    right.set(xlabel="iteration", ylabel="norm of the gradient", title="gradient of learned bases")
    if right.lines:
        right.set_yscale("log")
    else:
        right.text(0.5, 0.5, "not recorded", transform=right.transAxes, ha="center")


def _curve(ax: Axes, curve: list[tuple[int, float]] | None, color: str) -> None:
    """A running mean of three points of a curve, if it was recorded."""
    if curve:
        course = pd.DataFrame(curve, columns=["iteration", "value"])
        smooth = course["value"].rolling(3, min_periods=1).mean()
        ax.plot(course["iteration"], smooth, color=color, alpha=0.6, lw=1)


def _of_shared_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of the seeds that every T of the same gradient regime has, so that means compare."""
    every = scores.groupby("gradient")["T"].transform("nunique")
    return scores[scores.groupby(["gradient", "seed"])["T"].transform("nunique") == every]


def iteration_grid(scores: pd.DataFrame, regimes: Sequence[str], title: str) -> None:
    """Mean mIoU by iterations in training and in the test, one panel a gradient regime.

    Of the seeds that all rows of a panel have.
    """
    scores = _of_shared_seeds(scores)
    figure, parts = charts.panels(scores, regimes, width=5.2, height=4.4, sharey=False)
    numbers = {"annot": True, "fmt": ".1f", "annot_kws": {"size": 8}}
    for ax, _, part in parts:
        table = part.pivot_table(index="T", columns="T_eval", values="miou")
        sns.heatmap(table, **numbers, cmap="mako", ax=ax, cbar=False)
        ax.set(xlabel="iterations in the test", ylabel="iterations in training")
    figure.suptitle(f"{title}: mIoU in %, mean over {charts.number_of_seeds(scores)}")


def iterations_in_the_test(changes: pd.DataFrame, regimes: Sequence[str]) -> None:
    """Change of mIoU by iterations in the test, one line a T of the training, mean over seeds."""
    figure, parts = charts.panels(changes, regimes, height=3.4)
    most = changes["T_eval"].max()
    for ax, _, part in parts:
        for number, (count, course) in enumerate(part.groupby("T")):
            means = course.groupby("T_eval")["change"].mean()
            color = plt.get_cmap("viridis")(number / most)
            ax.plot(means.index, means, "o-", ms=3, color=color, label=f"{count}")
        ax.axhline(0, color="0.5", lw=0.8)
        ax.set_xlabel("iterations in the test")
        ax.legend(title="T_train", fontsize=7, ncols=2)
    figure.axes[0].set_ylabel("change of mIoU")


def trained_iterations(
    runs: pd.DataFrame, hue: str, *, order: Sequence[str], title: str = ""
) -> None:
    """Score by iterations, as many in the test as in training; a line a value of ``hue``."""
    _, ax = plt.subplots()
    there = [value for value in order if value in set(runs[hue])]
    labels = {"xlabel": "iterations in training and test", "ylabel": _SCORE}
    charts.lines(runs, "T", "miou", hue, ax=ax, order=there, **labels)
    ax.set_title(title)


def options(
    panels: Mapping[str, tuple[str, pd.DataFrame]], regimes: Sequence[str], title: str
) -> None:
    """Score by the value of an option, one panel an option, one line a gradient regime."""
    size = (3.9 * len(panels), 3.6)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for ax, (column, (name, runs)) in zip(axes[0], panels.items(), strict=True):
        labels = {"xlabel": name, "ylabel": _SCORE}
        charts.lines(runs, column, "miou", "gradient", ax=ax, order=regimes, **labels)
        charts.log2_ticks(ax, runs[column])
    every = pd.concat([runs for _, runs in panels.values()])
    axes[0, 0].set_ylim(every["miou"].min() - 1, every["miou"].max() + 1)
    charts.one_legend(axes[0])
    seeds = charts.number_of_seeds(next(iter(panels.values()))[1])
    figure.suptitle(f"{title}, T = 3, {seeds}: means with 95 % t-intervals")


def different_bases(
    panels: Mapping[str, tuple[str, pd.DataFrame]], regimes: Sequence[str], title: str
) -> None:
    """How many different bases are left, by the value of an option; dotted: as many as there are.

    The middle 90 % of λ_c of all images ("critical" in the last panel) are shaded.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.5 * len(panels), 3.6), sharey=True)
    for ax, (column, (name, found)) in zip(axes, panels.items(), strict=True):
        labels = {"xlabel": name, "ylabel": "different bases, mean over images"}
        charts.lines(found, column, "different", "gradient", ax=ax, order=regimes, **labels)
        bases = found.groupby(column)["num_bases"].first()
        ax.plot(bases.index, bases, ":", color="0.5", label="K")
        charts.log2_ticks(ax, found[column])
    counted = [found for _, found in panels.values()]
    most = max(found["different"].max() for found in counted)
    charts.log2_counts(axes[0], max(16, math.ceil(most)))
    for ax in axes:
        ax.minorticks_off()
    critical = np.concatenate(counted[-1]["critical"].tolist())
    axes[-1].axvspan(*np.quantile(critical, [0.05, 0.95]), color="0.88", lw=0, zorder=0)
    charts.one_legend(axes)
    seeds = charts.number_of_seeds(next(iter(panels.values()))[1])
    figure.suptitle(f"{title}, T = 3, {seeds}")
