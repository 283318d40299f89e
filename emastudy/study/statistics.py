"""Means and differences over seeds, with intervals."""

import itertools
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from emastudy.errors import InputError


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and its Student t-interval.

    Args:
        values: One number per seed.
        confidence: Coverage of the interval.

    Returns:
        (mean, low, high). One value alone has no interval: low and high are NaN.
    """
    sample = np.asarray(list(values), dtype=float)
    # scipy warns of one value alone, and of values that are equal.
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        low, high = stats.ttest_1samp(sample, 0).confidence_interval(confidence)
    return float(sample.mean()), float(low), float(high)


def spread_ratio_interval(
    values: Iterable[float], reference: Iterable[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Ratio of two standard deviations and its F-interval, for independent normal samples.

    Args:
        values: One number per seed; at least two.
        reference: The same of what is divided by; at least two.
        confidence: Coverage of the interval.

    Returns:
        (ratio, low, high); NaN if the reference does not vary.
    """
    above, below = (np.asarray(list(sample), dtype=float) for sample in (values, reference))
    spread = float(below.std(ddof=1))
    if spread == 0:
        return float("nan"), float("nan"), float("nan")
    ratio = float(above.std(ddof=1)) / spread
    tails = stats.f.ppf(
        [0.5 + confidence / 2, 0.5 - confidence / 2], len(above) - 1, len(below) - 1
    )
    low, high = ratio / np.sqrt(tails)
    return ratio, float(low), float(high)


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


def summarize_columns(frame: pd.DataFrame, by: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """Mean over seeds with interval of several quantities, one row a group and quantity.

    Args:
        frame: One row a run.
        by: Column that names the groups; their order is kept.
        columns: Column of ``frame`` → what to call it.

    Returns:
        Index = (group, name); columns as :func:`summarize`.
    """
    tables = {name: summarize(frame, by, column) for column, name in columns.items()}
    both = pd.concat(tables).swaplevel()
    return both.loc[list(itertools.product(frame[by].unique(), tables))]


def paired_differences(
    frame: pd.DataFrame,
    by: str,
    value: str,
    *,
    baseline: Hashable,
    within: Sequence[str] = (),
) -> pd.DataFrame:
    """Difference of every group to a baseline, paired by seed.

    Args:
        frame: One row a run; at most one run per group and seed (and combination of ``within``).
        by: Column that names the groups.
        value: Column to compare.
        baseline: The group that is subtracted.
        within: Columns, e.g. the gradient regime: compare within each combination of their values
            by itself. One that lacks the baseline, or has nothing else, is left out.

    Returns:
        Index = group (after ``within``, in the order of the frame); columns "difference", "low",
        "high" (95 % t-interval), "seeds" (those that both have) and "decided": whether the interval
        excludes zero.

    Raises:
        InputError: Two runs of one group share a seed: something else differs between them.
    """
    columns = ["difference", "low", "high", "seeds", "decided"]
    if within:
        tables = {
            key if len(key) > 1 else key[0]: paired_differences(part, by, value, baseline=baseline)
            for key, part in frame.groupby(list(within), sort=False)
            if baseline in set(part[by]) and part[by].nunique() > 1
        }
        if tables:
            return pd.concat(tables, names=[*within, by])
        nothing = pd.MultiIndex.from_arrays([[]] * (len(within) + 1), names=[*within, by])
        return pd.DataFrame(index=nothing, columns=columns)
    if frame.duplicated([by, "seed"]).any():
        raise InputError(
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
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def as_text(difference: pd.Series) -> str:
    """A row of :func:`paired_differences` as "+3.86 [+2.68, +5.04]"; one seed has no interval."""
    interval = f" [{difference['low']:+.2f}, {difference['high']:+.2f}]"
    return f"{difference['difference']:+.2f}{'' if np.isnan(difference['low']) else interval}"


class Fit(NamedTuple):
    """A power law y ∝ x^exponent with the 95 % interval of its exponent."""

    exponent: float
    low: float
    high: float


def fit_exponent(x: Iterable[int | float], y: Iterable[int | float]) -> Fit:
    """Least squares through log y against log x.

    Args:
        x: Positive values, at least two different ones.
        y: Positive values.

    Returns:
        The slope and its 95 % t-interval (NaN with two points alone).
    """
    log_x, log_y = (np.log(np.asarray(list(values), dtype=float)) for values in (x, y))
    line = stats.linregress(log_x, log_y)
    freedom = len(log_x) - 2
    half = stats.t.ppf(0.975, freedom) * line.stderr if freedom > 0 else float("nan")
    return Fit(float(line.slope), float(line.slope - half), float(line.slope + half))
