"""The figure of the audits: how far runs trained anew are off their records."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd

_QUANTITIES = {
    "difference": ("miou", "trained anew less recorded, points of mIoU"),
    "loss": ("loss", "mean distance of the loss curves, nats"),
}


def differences(audits: pd.DataFrame, tolerance: Mapping[str, float]) -> None:
    """Every audited run's distance from its record, a line a kind; grey: what counts as holding."""
    kinds = sorted(audits["kind"].unique(), reverse=True)
    counts = audits["kind"].value_counts()
    height = 0.3 * max(len(kinds), 3) + 1.4
    figure, axes = plt.subplots(1, 2, figsize=(9, height), sharey=True)
    for ax, (column, (name, label)) in zip(axes, _QUANTITIES.items(), strict=True):
        limit = tolerance[name]
        low = -limit if column == "difference" else 0
        ax.axvspan(low, limit, color="0.93", zorder=0)
        for number, (profile, part) in enumerate(audits.groupby("profile", sort=False)):
            places = part["kind"].map(kinds.index)
            ax.plot(part[column], places, "o", color=f"C{number}", alpha=0.5, label=profile)
        widest = max([limit, *audits[column].abs()])
        ax.set_xlim(-1.15 * widest if low else -0.03 * widest, 1.15 * widest)
        ax.set(xlabel=label, ylim=(-0.6, max(len(kinds), 3) - 0.4))
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(kinds)), [f"{kind} ({counts[kind]})" for kind in kinds])
    axes[0].axvline(0, color="0.3", lw=0.8)
    if kinds:
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
        figure.suptitle(f"{len(audits)} runs trained anew (how many of each kind)")
    else:
        axes[1].text(0.5, 0.5, "nothing is audited yet", transform=axes[1].transAxes, ha="center")
