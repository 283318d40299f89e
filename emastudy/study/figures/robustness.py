"""The figures of robustness and rank: scores under corruption, singular values."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from emastudy.study.figures import charts


def severities(scores: pd.DataFrame, kinds: Sequence[str], title: str) -> None:
    """Score against severity, one panel a kind of corruption, one line a method."""
    figure, axes = plt.subplots(1, len(kinds), figsize=(3 * len(kinds), 3.3), sharey=True)
    labels = {"xlabel": "severity, 0 = clean", "ylabel": "mIoU, %"}
    for ax, kind in zip(axes, kinds, strict=True):
        part = scores[scores["at.corruption"].isin(["", kind])]
        charts.lines(part, "at.severity", "miou", "method", ax=ax, **labels)
        ax.set_title(kind)
    charts.one_legend(axes)
    axes[0].set_ylim(0, 1.05 * scores["miou"].max())
    figure.suptitle(f"{title}, {charts.number_of_seeds(scores)}: means with 95 % t-intervals")


def by_iterations(scores: pd.DataFrame, regimes: Sequence[str]) -> None:
    """Score against the iterations in the test, clean and corrupted, one panel a regime."""
    labels: dict[str, Any] = {"xlabel": "iterations in the test", "ylabel": "mIoU, %"}
    figure = charts.regime_lines(scores, "T_eval", "miou", "images", regimes=regimes, **labels)
    figure.axes[0].set_ylim(0.9 * scores["miou"].min(), 1.05 * scores["miou"].max())
    figure.suptitle("trained with T = 3, tested with other numbers of iterations")


def spectra(measured: pd.DataFrame, title: str = "") -> None:
    """Mean singular values of X and of its estimate over the largest, one colour a regime."""
    _, ax = plt.subplots()
    for number, (regime, part) in enumerate(measured.groupby("head.gradient", sort=False)):
        for column, style, name in (("spectrum_x", "-", "X"), ("spectrum_estimate", "--", "X̃")):
            values = np.mean(part[column].tolist(), axis=0)
            places = range(1, len(values) + 1)
            ax.plot(places, values, style, color=f"C{number}", label=f"{name}, {regime}")
    bases = measured["num_bases"].iloc[0]
    ax.axvline(bases, color="0.6", lw=0.8)
    ax.annotate("K", (bases, 1), color="0.4")
    ax.set(xlabel="singular value", ylabel="over the largest", yscale="log", ylim=(1e-6, 1.5))
    ax.set_title(title)
    ax.legend()
