"""The sentences that pages open with, made from the runs on them."""

from collections.abc import Mapping

import pandas as pd

from emastudy.study.report.report import best_other


def settings(
    panels: Mapping[str, tuple[str, pd.DataFrame]],
    baselines: Mapping[str, float],
    different: pd.DataFrame,
) -> str:
    """Which values of EMA's options scored best, as a Markdown list.

    Args:
        panels: The option's column → what to call it, and the runs with its values.
        baselines: The column → the recipe's value.
        different: Of the bases' number, see ``ablations.different_bases``.
    """
    bases = panels["head.num_bases"][1]
    lines = [
        f"- {name}, gradients {regime}: " + best_other(part, column, baseline=baselines[column])
        for column, (name, runs) in panels.items()
        for regime, part in runs.groupby("gradient", sort=False)
    ]
    lines += [
        f"- attention against global average pooling (K = 1), gradients {regime}: "
        + best_other(part, "head.num_bases", baseline=1)
        for regime, part in bases.groupby("gradient", sort=False)
    ]
    most = different[different["num_bases"] == bases["head.num_bases"].max()]
    lines += [
        f"- of K = {count:g} bases, gradients {regime}, {part['different'].mean():.1f} are "
        f"different ones after T = 3 iterations ({len(part)} seeds; see below)."
        for (regime, count), part in most.groupby(["gradient", "num_bases"])
    ]
    return "\n".join(lines)
