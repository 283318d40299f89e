"""The bases' figures: maps of responsibilities, classes served, information, different bases."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float

from emastudy.study.figures import charts, drawing

Colors = Sequence[tuple[int, int, int]]


def maps(
    found: pd.DataFrame,
    pictures: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    colors: Colors,
) -> None:
    """A row an image: image, truth, prediction, then chosen bases after the last iteration.

    Args:
        pictures: (H, W, 3) uint8.
        truths: The same, coloured by class.
        predictions: (H, W) class indices.
    """
    _, axes = drawing.gallery(len(found), 3 + len(found["bases"].iloc[0]), size=1.55)
    for number, row in enumerate(axes):
        row[0].imshow(pictures[number])
        row[1].imshow(truths[number])
        row[2].imshow(drawing.colorize(predictions[number], colors))
        _heats(row[3:], found.iloc[number], pictures[number], named=number == 0)
    for ax, title in zip(axes[0], ("image", "truth", "prediction"), strict=False):
        ax.set_title(title, fontsize=8)


def outlined_maps(
    found: pd.DataFrame, predictions: Sequence[np.ndarray], classes: Sequence[str], colors: Colors
) -> None:
    """As :func:`maps`, without images: the prediction's outlines are drawn over each map."""
    figure, axes = drawing.gallery(len(found), 1 + len(found["bases"].iloc[0]), size=1.7)
    for number, (row, predicted) in enumerate(zip(axes, predictions, strict=True)):
        row[0].imshow(drawing.colorize(predicted, colors))
        dark = np.zeros((*predicted.shape, 3))
        _heats(row[1:], found.iloc[number], dark, named=number == 0)
        for ax in row[1:]:
            for label in np.unique(predicted):
                ax.contour(predicted == label, levels=[0.5], colors="w", linewidths=0.6)
    drawing.class_legend(figure, classes, colors)


def _heats(axes: np.ndarray, found: pd.Series, picture: np.ndarray, *, named: bool) -> None:
    """The last iteration's maps of one image's chosen bases."""
    last = np.array(found["maps"])[-1] / 255
    for ax, basis, why, weights in zip(axes, found["bases"], found["chosen"], last, strict=True):
        title = f"max {weights.max():.2f}"
        drawing.heat(ax, picture, weights, f"{basis}, {why}\n{title}" if named else title)


def map_iterations(found: pd.Series, picture: np.ndarray) -> None:
    """The chosen bases of one image, a row an iteration."""
    steps = np.array(found["maps"]) / 255
    _, axes = drawing.gallery(len(steps), len(found["bases"]), size=1.7)
    for number, (row, maps) in enumerate(zip(axes, steps, strict=True), 1):
        for ax, basis, why, weights in zip(row, found["bases"], found["chosen"], maps, strict=True):
            title = f"basis {basis}, {why}\nt = {number}, max {weights.max():.2f}"
            drawing.heat(ax, picture, weights, title)


def classes_served(
    usage: Float[np.ndarray, " bases"],
    classes: Float[np.ndarray, "bases classes"],
    everywhere: Float[np.ndarray, " classes"],
    *,
    names: Sequence[str],
    title: str,
) -> None:
    """Share of every class among the pixels of each of the 24 most used bases."""
    order = np.argsort(-usage)[:24]
    table = pd.DataFrame(np.vstack([classes[order], everywhere]), columns=list(names))
    table.index = pd.Index([f"basis {k} ({usage[k]:.1%})" for k in order] + ["all pixels"])
    _, ax = plt.subplots(figsize=(6.4, 0.24 * len(table) + 1))
    sns.heatmap(100 * table, cmap="mako", vmin=0, ax=ax, cbar_kws={"label": "share of class, %"})
    ax.tick_params(axis="x", rotation=45)
    ax.tick_params(axis="y", labelsize=7)
    ax.set_title(title)


def information(
    courses: pd.DataFrame, measured: pd.DataFrame, regimes: Sequence[str], title: str
) -> None:
    """Information against the iteration, one panel a regime; dashed: bases renumbered."""
    labels = {"xlabel": "iteration", "ylabel": "information on the class, nats"}
    figure, parts = charts.panels(courses, regimes, height=3.8)
    for ax, regime, part in parts:
        charts.lines(part, "iteration", "information", "start", ax=ax, **labels)
        mean = measured.loc[measured["head.gradient"] == regime, "shuffled"].mean()
        ax.axhline(mean, color="0.4", ls="--", lw=1)
        ax.annotate(
            "renumbered per image", (1, mean), xytext=(0, 4), textcoords="offset points", fontsize=7
        )
        ax.set_ylim(0, 1.05 * max(courses["information"].max(), measured["shuffled"].max()))
    charts.one_legend(figure.axes)
    entropy = measured["entropy"].mean()
    seeds = charts.number_of_seeds(measured)
    figure.suptitle(f"{title}, {seeds}; all there is to know: {entropy:.2f} nats")


def usage(shares: Mapping[str, Float[np.ndarray, " bases"]]) -> None:
    """Share of the pixels that every basis takes, one line a gradient regime."""
    _, ax = plt.subplots()
    for regime, values in shares.items():
        ax.plot(range(1, len(values) + 1), 100 * values, "o-", ms=3, label=regime)
    ax.set(xlabel="basis, by use", ylabel="share of pixels, %", ylim=(0, None))
    ax.legend(title="gradients")


def distinct(courses: pd.DataFrame, *, bases: int, regimes: Sequence[str], title: str) -> None:
    """Number of different bases against the iteration, one line a regime; dotted: K."""
    _, ax = plt.subplots()
    there = [regime for regime in regimes if regime in set(courses["gradient"])]
    labels = {"xlabel": "iteration", "ylabel": "different bases, mean over images"}
    charts.lines(courses, "iteration", "distinct", "gradient", ax=ax, order=there, **labels)
    ax.axhline(bases, ls=":", color="0.5")
    charts.log2_counts(ax, bases)
    ax.set_title(f"{title}: of {bases} bases, {charts.number_of_seeds(courses)}")
