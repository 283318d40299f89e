"""The study's charts: one style, intervals drawn, functions of a DataFrame and the axes to draw on.

A frame has one row a run; ``x``, ``y``, ``hue`` and ``by`` name columns of it, labels name a
quantity and its unit, and sizes are in inches.
"""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from scipy.stats import gmean

from emastudy.study.statistics import fit_exponent, mean_interval, summarize

#: Columns that tell methods and settings of a head apart.
_SETTINGS = r"^(head.*|method|gradient|normalisation|start|block|step|T|λ)$"


def use_style() -> None:
    """Draw everything that follows in the study's style."""
    mpl.style.use(Path(__file__).with_name("emastudy.mplstyle"))


def lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str,
    *,
    ax: Axes,
    xlabel: str,
    ylabel: str,
    order: Sequence[str] | None = None,
) -> None:
    """Mean over seeds with its 95 % t-interval as a band, every seed as a dot.

    Args:
        order: Values of ``hue``, which have the same colours in every panel that is given them;
            default: those in ``frame``, in its order.
    """
    common = {"x": x, "y": y, "hue": hue, "hue_order": order, "ax": ax}
    interval = {"errorbar": lambda values: mean_interval(values)[1:], "err_kws": {"alpha": 0.15}}
    sns.lineplot(frame, **common, **interval)
    sns.scatterplot(frame, **common, s=14, alpha=0.7, legend=False)
    ax.set(xlabel=xlabel, ylabel=ylabel, xticks=sorted(frame[x].unique()))
    ax.legend(title=hue)
    ax.set_ylim(_view(frame[y]))


def panels(
    frame: pd.DataFrame,
    regimes: Sequence[str],
    *,
    width: float = 4.6,
    height: float = 3.6,
    sharey: bool = True,
) -> tuple[Figure, list[tuple[Axes, str, pd.DataFrame]]]:
    """A row of empty panels, one for each gradient regime that has rows.

    Args:
        width: Of one panel, inches; where there are more than two, three quarters of it.

    Returns:
        The figure; and each panel's axes, regime and rows.
    """
    there = [regime for regime in regimes if regime in set(frame["gradient"])]
    size = (width * len(there) * (0.75 if len(there) > 2 else 1), height)
    figure, axes = plt.subplots(1, len(there), figsize=size, sharey=sharey, squeeze=False)
    for ax, regime in zip(axes[0], there, strict=True):
        ax.set_title(f"gradients {regime}")
    parts = [frame[frame["gradient"] == regime] for regime in there]
    return figure, list(zip(axes[0], there, parts, strict=True))


def one_legend(axes: np.ndarray | Sequence[Axes]) -> None:
    """Of a row of panels keep the last one's legend alone, and put it to its right."""
    for ax in axes[:-1]:
        if (legend := ax.get_legend()) is not None:
            legend.remove()
    sns.move_legend(axes[-1], "upper left", bbox_to_anchor=(1.02, 1))


def regime_lines(
    frame: pd.DataFrame, *columns: str, regimes: Sequence[str], height: float = 3.6, **options: Any
) -> Figure:
    """:func:`lines`, one panel a gradient regime (column "gradient"), with one legend."""
    figure, parts = panels(frame, regimes, height=height)
    for ax, _, part in parts:
        lines(part, *columns, ax=ax, **options)
    one_legend(figure.axes)
    return figure


def number_of_seeds(runs: pd.DataFrame) -> str:
    """For a title: "5 seeds", or "3 to 8 seeds" where methods or settings have more or fewer."""
    if runs.empty:
        return "0 seeds"
    settings = runs.filter(regex=_SETTINGS).map(str).agg(" ".join, axis="columns")
    counts = runs["seed"].groupby(settings).nunique()
    least, most = counts.min(), counts.max()
    return f"{least} to {most} seeds" if least < most else f"{most} seed{'s' * bool(most != 1)}"


def log2_counts(ax: Axes, most: int) -> None:
    """A vertical axis of numbers of bases, in powers of two from 1 to ``most``."""
    ticks = [2**power for power in range(int(np.log2(most)) + 1)]
    ax.set_yscale("log", base=2)
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.set_ylim(0.9, 1.1 * most)


def log2_ticks(ax: Axes, values: pd.Series) -> None:
    """A horizontal axis in powers of two, with a tick at every value: 1/4, 1, 4."""
    ticks = sorted(values.unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{t:g}" if t >= 1 else f"1/{1 / t:g}" for t in ticks])
    ax.minorticks_off()


def runs_and_means(
    runs: pd.DataFrame, by: str, *, ax: Axes, xlabel: str, order: Sequence[str] | None = None
) -> None:
    """Mean over seeds of every group with its interval, and its single runs, see :func:`intervals`.

    Args:
        order: The groups from top to bottom, each with its line whether it has runs or not, so that
            panels can share them; default: those there are, the best first.
    """
    summary = summarize(runs, by, "miou").sort_values("mean", ascending=False)
    summary = summary if order is None else summary.reindex(list(order))
    points = runs[[by, "miou"]].set_axis(["label", "value"], axis=1)
    intervals(summary, ax=ax, xlabel=xlabel, points=points)


def intervals(
    summary: pd.DataFrame, *, ax: Axes, xlabel: str, points: pd.DataFrame | None = None
) -> None:
    """One line per row: mean, 95 % interval, and the single runs.

    Args:
        summary: Index = label; columns "mean", "low", "high".
        points: Columns "label" and "value": single runs, drawn as open dots.
    """
    places = {label: -row for row, label in enumerate(summary.index)}
    for label, row in summary.iterrows():
        ax.plot([row["low"], row["high"]], [places[label]] * 2, color="C0", alpha=0.5)
        ax.plot(row["mean"], places[label], "o", color="C0")
    if points is not None:
        heights = [places[label] - 0.18 for label in points["label"]]
        ax.scatter(points["value"], heights, facecolors="none", edgecolors="0.4", s=16)
    ax.set(xlabel=xlabel, yticks=list(places.values()), yticklabels=list(places))
    ax.set_ylim(-len(places) + 0.4, 0.6)
    ax.grid(axis="y", visible=False)


def power_laws(
    frame: pd.DataFrame, x: str, y: str, hue: str, *, ax: Axes, xlabel: str, ylabel: str
) -> None:
    """Measured points on two logarithmic axes, and the power law fitted to each group."""
    for number, (group, part) in enumerate(frame.groupby(hue, sort=False)):
        exponent, color = fit_exponent(part[x], part[y]).exponent, f"C{number}"
        line = gmean(part[y]) * (part[x] / gmean(part[x])) ** exponent
        ax.plot(part[x], part[y], "o", color=color)
        ax.plot(part[x], line, color=color, alpha=0.6, label=f"{group}: {xlabel}^{exponent:.2f}")
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    ticks = sorted(frame[x].unique())
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    ax.legend()


def leads(
    frame: pd.DataFrame,
    *,
    ax: Axes,
    xlabel: str,
    marks: pd.DataFrame | None = None,
    mark_label: str = "published",
) -> None:
    """Differences to rivals with their intervals: a block a rival, a line a method, zero drawn.

    Args:
        frame: Columns "rival" (a category keeps the place of those without rows), "method",
            "difference", "low", "high".
        marks: Columns "rival", "difference": values from elsewhere, without intervals.
    """
    methods = list(frame["method"].unique())
    named = isinstance(frame["rival"].dtype, pd.CategoricalDtype)
    rivals = list(frame["rival"].cat.categories if named else frame["rival"].unique())
    step = 0.8 / (len(methods) + (marks is not None))
    for number, method in enumerate(methods):
        part = frame[frame["method"] == method].set_index("rival").reindex(rivals)
        heights = [-(row - 0.4 + (number + 0.5) * step) for row in range(len(rivals))]
        ax.hlines(heights, part["low"], part["high"], color=f"C{number}", alpha=0.5)
        ax.plot(part["difference"], heights, "o", color=f"C{number}", label=method)
    if marks is not None:
        marks = marks[marks["rival"].isin(rivals)]
        heights = [-(rivals.index(rival) + 0.4 - step / 2) for rival in marks["rival"]]
        ax.plot(marks["difference"], heights, "D", color="0.35", mfc="none", label=mark_label)
    for row in range(1, len(rivals)):
        ax.axhline(0.5 - row, color="0.9", lw=0.7)
    ax.axvline(0, color="0.3", lw=1)
    ax.set(xlabel=xlabel, yticks=[-row for row in range(len(rivals))], yticklabels=rivals)
    ax.set_ylim(0.5 - len(rivals), 0.5)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


def tradeoff(frame: pd.DataFrame, *, ax: Axes, xlabel: str, ylabel: str, family: str) -> None:
    """Score against cost, one point a method with its interval, the legend best first.

    The axis is framed on the means; intervals that are wider, as those of two seeds, are cut.

    Args:
        frame: Index = method; columns "cost" (positive), "mean", "low", "high".
        family: How the names of methods begin that are variants of one another: these share a
            colour, not a marker.
    """
    shapes = cycle("osD^vP")
    others = ((f"C{number}", shape) for shape in cycle("oXp*") for number in range(1, 8))
    style = {
        method: ("C0", next(shapes)) if method.startswith(family) else next(others)
        for method in frame.index
    }
    for method, row in frame.sort_values("mean", ascending=False).iterrows():
        colour, shape = style[method]
        ax.vlines(row["cost"], row["low"], row["high"], color=colour, alpha=0.5)
        label = f"{method}: {row['mean']:.1f}"
        ax.plot(
            row["cost"], row["mean"], shape, color=colour, ms=7, mec="0.2", mew=0.5, label=label
        )
    ax.set(xscale="log", xlabel=xlabel, ylabel=ylabel, ylim=_view(frame["mean"]))
    if frame["cost"].max() < 10 * frame["cost"].min():  # powers of ten would be one tick or none
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter("{x:,g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def matrix(
    frame: pd.DataFrame, *, ax: Axes, label: str, around_zero: bool = False, decimals: int = 0
) -> None:
    """A table of numbers as colours, with the numbers in it."""
    colours = {"cmap": "RdBu", "center": 0} if around_zero else {"cmap": "Blues"}
    form = f"{'+' if around_zero else ''}.{decimals}f"
    numbers = {"annot": True, "fmt": form, "annot_kws": {"fontsize": 8}}
    sns.heatmap(frame, **numbers, **colours, cbar_kws={"label": label}, linewidths=0.5, ax=ax)
    ax.set(xlabel=frame.columns.name or "", ylabel=frame.index.name or "")
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)
    _slant(ax)
    ax.grid(visible=False)


def bars(frame: pd.DataFrame, x: str, y: str, hue: str, *, ax: Axes, ylabel: str) -> None:
    """Mean over seeds as a bar, every seed as a dot: for seeds too few for an interval."""
    sns.barplot(frame, x=x, y=y, hue=hue, errorbar=None, ax=ax, alpha=0.75, saturation=1)
    sns.stripplot(
        frame, x=x, y=y, hue=hue, dodge=True, jitter=False, size=3.5, ax=ax,
        legend=False, palette=["0.15"] * frame[hue].nunique(),
    )  # fmt: skip
    ax.set(xlabel="", ylabel=ylabel)
    ax.grid(axis="x", visible=False)
    _slant(ax)
    ax.legend(title=None, loc="upper left", bbox_to_anchor=(1, 1))


def _slant(ax: Axes) -> None:
    plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")


def ranking(
    values: pd.Series, *, ax: Axes, xlabel: str, own: Sequence[bool], sure: Sequence[bool]
) -> None:
    """A published table as dots, best on top, each with its number."""
    order = values.to_numpy().argsort(kind="stable")
    low = float(values.min())
    for place, row in enumerate(order):
        colour = "C1" if own[row] else "0.35"
        value = float(values.iloc[row])
        ax.plot(value, place, "o", color=colour, mfc=colour if sure[row] else "white", ms=6)
        ax.annotate(
            f"{value:.1f}", (value, place), xytext=(7, 0), textcoords="offset points",
            va="center", fontsize=8, color=colour,
        )  # fmt: skip
    span = float(values.max()) - low
    ax.set_xlim(low - 0.06 * span, low + 1.14 * span)
    ax.set(xlabel=xlabel, yticks=range(len(order)), yticklabels=values.index[order])
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.tick_params(axis="y", length=0)
    if not all(sure):
        ax.plot([], "o", color="0.35", mfc="white", ms=6, label="recalled, unverified")
        ax.legend(loc="lower right")


def keep_in_view(ax: Axes, values: pd.Series) -> None:
    """Frame the horizontal axis on single runs; wide intervals are cut."""
    ax.set_xlim(_view(values))


def _view(values: pd.Series) -> tuple[float, float]:
    """Limits of an axis about single runs, or means.

    The t-interval of two or three seeds is many times their spread; it is cut at the axes instead
    of flattening everything else.
    """
    low, high = float(values.min()), float(values.max())
    margin = 0.25 * max(high - low, 1)
    return low - margin, high + margin
