"""The study's figures: one style, intervals drawn, functions of a DataFrame or of arrays.

Floor: study (imports matplotlib and seaborn).
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gmean

from emastudy.study.scaling import fit_exponent
from emastudy.study.statistics import mean_interval


def use_style() -> None:
    """Draw everything that follows in the study's style."""
    mpl.style.use(Path(__file__).with_name("emastudy.mplstyle"))


def lines(
    frame: pd.DataFrame, x: str, y: str, hue: str, *, ax: Axes, xlabel: str, ylabel: str
) -> None:
    """Mean over seeds with its 95 % t-interval as a band, every seed as a dot.

    Args:
        frame: One row a run.
        x: Column on the horizontal axis, whole numbers.
        y: Column on the vertical axis.
        hue: Column that tells the lines apart.
        ax: Where to draw.
        xlabel: Name and unit of x.
        ylabel: Name and unit of y.
    """
    sns.lineplot(frame, x=x, y=y, hue=hue, errorbar=_t_interval, err_kws={"alpha": 0.15}, ax=ax)
    sns.scatterplot(frame, x=x, y=y, hue=hue, s=14, alpha=0.7, legend=False, ax=ax)
    ax.set(xlabel=xlabel, ylabel=ylabel, xticks=sorted(frame[x].unique()))
    ax.legend(title=hue)
    # A t-interval of two or three seeds is many times their spread: it must not flatten the curves.
    low, high = frame[y].min(), frame[y].max()
    margin = 0.25 * max(high - low, 1)
    ax.set_ylim(low - margin, high + margin)


def intervals(
    summary: pd.DataFrame, *, ax: Axes, xlabel: str, points: pd.DataFrame | None = None
) -> None:
    """One line per row: mean, 95 % interval, and the single runs.

    Args:
        summary: Index = label; columns "mean", "low", "high".
        ax: Where to draw.
        xlabel: Name and unit of the quantity.
        points: Columns "label" and "value": single runs, drawn as open dots.
    """
    places = {label: -row for row, label in enumerate(summary.index)}
    for label, row in summary.iterrows():
        ax.plot([row["low"], row["high"]], [places[label]] * 2, color="C0", alpha=0.5)
        ax.plot(row["mean"], places[label], "o", color="C0")
    if points is not None:
        ax.scatter(
            points["value"],
            [places[label] - 0.18 for label in points["label"]],
            facecolors="none",
            edgecolors="0.4",
            s=16,
        )
    ax.set(xlabel=xlabel, yticks=list(places.values()), yticklabels=list(places))
    ax.set_ylim(-len(places) + 0.4, 0.6)
    ax.grid(axis="y", visible=False)


def power_laws(
    frame: pd.DataFrame, x: str, y: str, hue: str, *, ax: Axes, xlabel: str, ylabel: str
) -> None:
    """Measured points on two logarithmic axes, and the power law fitted to each group.

    Args:
        frame: One row a measurement.
        x: Column on the horizontal axis, positive.
        y: Column on the vertical axis, positive.
        hue: Column that tells the groups apart; the legend gives each one's exponent.
        ax: Where to draw.
        xlabel: Name and unit of x.
        ylabel: Name and unit of y.
    """
    for number, (group, part) in enumerate(frame.groupby(hue, sort=False)):
        fit = fit_exponent(part[x], part[y])
        line = np.exp(np.log(part[y]).mean() + fit.exponent * (np.log(part[x] / gmean(part[x]))))
        ax.plot(part[x], part[y], "o", color=f"C{number}")
        ax.plot(
            part[x],
            line,
            color=f"C{number}",
            alpha=0.6,
            label=f"{group}: {xlabel}^{fit.exponent:.2f}",
        )
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    ticks = sorted(frame[x].unique())
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    ax.legend()


def colorize(mask: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Class indices (H, W) to RGB (H, W, 3) uint8; ignored pixels (255) are light grey."""
    table = np.full((256, 3), 220, dtype=np.uint8)
    table[: len(colors)] = colors
    rgb: np.ndarray = table[mask]
    return rgb


def overlay(
    image: np.ndarray, mask: np.ndarray, colors: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Class colours laid over an image, half and half.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) class indices.
        colors: RGB per class.
    """
    return (0.5 * image + 0.5 * colorize(mask, colors)).astype(np.uint8)


def heat(ax: Axes, image: np.ndarray, weights: np.ndarray, title: str = "") -> None:
    """A map of weights (h, w) over a greyed image (H, W, 3), enlarged to its size.

    Weights are drawn from 0 to the map's own maximum, which the title should say.
    """
    height, width = image.shape[:2]
    extent = (0, width, height, 0)
    ax.imshow(image.mean(axis=2), cmap="gray", extent=extent)
    ax.imshow(weights, cmap="inferno", alpha=0.6, vmin=0, extent=extent, interpolation="bilinear")
    ax.set_title(title, fontsize=8)
    ax.axis("off")


def gallery(rows: int, columns: int, *, size: float = 1.6) -> tuple[Figure, np.ndarray]:
    """A grid of axes without ticks, for pictures. Returns (figure, (rows, columns) axes)."""
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, size * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    return figure, axes


def animate(
    figure: Figure, draw: Callable[[int], None], frames: int, *, per_second: int = 3, dpi: int = 80
) -> bytes:
    """An animated GIF, for ``IPython.display.Image``: plays without scripts, also from a file.

    Args:
        figure: What is drawn on; closed afterwards.
        draw: Draws frame number 0, 1, …; clears what the last one left.
        frames: How many. The last is held three times as long.
        per_second: Frames a second.
        dpi: Pixels per inch of the figure.
    """
    order = [*range(frames), frames - 1, frames - 1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animation.gif"
        FuncAnimation(figure, draw, frames=order).save(path, PillowWriter(fps=per_second), dpi=dpi)
        plt.close(figure)
        return path.read_bytes()


def _t_interval(values: pd.Series) -> tuple[float, float]:
    _, low, high = mean_interval(values)
    return low, high
