"""Means and differences over seeds, with intervals.

Floor: study (imports scipy and pandas).
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and its Student t-interval.

    Args:
        values: One number per seed.
        confidence: Coverage of the interval.

    Returns:
        (mean, low, high). One value alone has no interval: low and high are NaN.
    """
    sample = np.asarray(list(values), dtype=float)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, float("nan"), float("nan")
    half = stats.t.ppf(0.5 + confidence / 2, len(sample) - 1) * stats.sem(sample)
    return mean, mean - float(half), mean + float(half)


def summarize(frame: pd.DataFrame, by: str, value: str) -> pd.DataFrame:
    """Mean over seeds with interval, one row a group.

    Args:
        frame: One row a run.
        by: Column that names the groups; their order is kept.
        value: Column to average.

    Returns:
        Index = group; columns "mean", "low", "high", "seeds".
    """
    rows = {
        group: (*mean_interval(part[value]), part["seed"].nunique())
        for group, part in frame.groupby(by, sort=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high", "seeds"])


def paired_differences(frame: pd.DataFrame, by: str, value: str, *, baseline: str) -> pd.DataFrame:
    """Difference of every group to a baseline, paired by seed.

    Args:
        frame: One row a run; at most one run per group and seed.
        by: Column that names the groups.
        value: Column to compare.
        baseline: The group that is subtracted.

    Returns:
        Index = group; columns "difference", "low", "high" (95 % t-interval), "seeds" (those that
        both have) and "decided": whether the interval excludes zero.

    Raises:
        ValueError: Two runs of one group share a seed: something else differs between them.
    """
    if frame.duplicated([by, "seed"]).any():
        raise ValueError(
            f"several runs share one {by} and seed; pairing by seed needs one run each: "
            "filter the frame first"
        )
    wide = frame.pivot(index="seed", columns=by, values=value)
    rows = {}
    for group in frame[by].unique():
        if group == baseline:
            continue
        differences = (wide[group] - wide[baseline]).dropna()
        mean, low, high = mean_interval(differences)
        rows[group] = (mean, low, high, len(differences), bool(low > 0 or high < 0))
    columns = ["difference", "low", "high", "seeds", "decided"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
