"""Means and differences over seeds, with intervals; tests of difference and of no difference.

Seeds vary the initialisation and the order of the images. The images are fixed, so an interval
says what other seeds would give *on these images*; :func:`over_images` widens it to other images of
the same kind. It rests on differences being normal: with three or five seeds no paired test free of
that assumption could decide anything (the smallest two-sided p of a sign-flip test is 2^(1-n), 0.25
and 0.0625; with eight it is 0.008). And it finds large differences only: with a probability of
80 %, before any correction, those of 3.3 standard deviations of a paired difference with three
seeds, 1.7 with five, 1.2 with eight.
"""

import functools
import itertools
import math
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from emastudy.engine.scoring.metrics import iou
from emastudy.errors import InputError

#: Differences of mIoU up to this, in either direction, count as none in practice.
MARGIN = 0.5
#: Of tests, after the correction for their number.
LEVEL = 0.05
#: Seeds that a difference must have to be called decided.
FEWEST = 3


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and its Student t-interval, (mean, low, high), of one number per seed.

    One value alone has no interval: low and high are NaN.
    """
    sample = np.asarray(list(values), dtype=float)
    # scipy warns of one value alone, and of values that are equal.
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        low, high = stats.ttest_1samp(sample, 0).confidence_interval(confidence)
        return float(sample.mean()), float(low), float(high)


def mean_test(values: Iterable[float], limit: float = 0.0) -> float:
    """Two-sided p-value of Student's test that the mean is at a limit, of one number per seed.

    It is below 0.05 exactly where the 95 % interval of :func:`mean_interval` excludes the limit;
    NaN of one value alone, 1 of several that all equal the limit.
    """
    sample = np.asarray(list(values), dtype=float)
    if len(sample) > 1 and (sample == limit).all():
        return 1.0
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        return float(stats.ttest_1samp(sample, limit).pvalue)


class Equivalence(NamedTuple):
    """Whether a mean is zero for practical purposes: the p-value, its 90 % interval, the answer."""

    p: float
    low: float
    high: float
    equivalent: bool


def equivalence(values: Iterable[float], margin: float = MARGIN) -> Equivalence:
    """Two one-sided tests (TOST) that the mean lies within ±margin, at the level of 5 %.

    With mean d and standard error s of n values, p = P(t_{n-1} > (margin - abs(d)) / s). An
    interval that holds zero is no such finding: it may hold a large difference as well.

    Args:
        values: One number per seed; differences, for a paired comparison.
        margin: The largest difference that makes none, in the unit of the values; above 0.

    Returns:
        The p-value, the 90 % interval, which lies within ±margin exactly where p < 0.05, and
        whether it does. One value alone has neither: NaN, and not equivalent.

    Source: Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987.
    """
    sample = list(values)
    mean, low, high = mean_interval(sample, 0.9)
    p = mean_test(sample, math.copysign(margin, mean)) / 2
    p = p if abs(mean) < margin else 1 - p
    return Equivalence(p, low, high, p < 0.05)


def holm(p: Iterable[float]) -> np.ndarray:
    """Holm's adjusted p-values: those below α are wrong somewhere with probability at most α.

    Of p_(1) ≤ … ≤ p_(m), the i-th becomes max_{j≤i} min(1, (m - j + 1) p_(j)). It asks nothing of
    how the tests depend on each other. NaN stands for no test: it does not count, and stays.

    Source: Holm, Scand. J. Statist. 6, 1979.
    """
    adjusted = np.array(list(p), dtype=float)
    order = np.argsort(adjusted)[: np.isfinite(adjusted).sum()]  # NaN comes last
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def benjamini_hochberg(p: Iterable[float]) -> np.ndarray:
    """Benjamini and Hochberg's q-values: of those below α, at most a share α is wrong on average.

    Of p_(1) ≤ … ≤ p_(m), the i-th becomes min_{j≥i} m p_(j) / j. The guarantee is for tests that
    are independent or positively dependent. NaN stands for no test: it does not count, and stays.

    Source: Benjamini and Hochberg, J. R. Statist. Soc. B 57, 1995.
    """
    adjusted = np.array(list(p), dtype=float)
    tested = np.isfinite(adjusted)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(adjusted[tested])
    return adjusted


def spread_ratio_interval(
    values: Iterable[float], reference: Iterable[float]
) -> tuple[float, float, float, float]:
    """Ratio of two standard deviations and its 95 % F-interval, for independent normal samples.

    Returns:
        (ratio, low, high, two-sided p-value that it is 1); NaN if the reference does not vary.
    """
    above, below = (np.asarray(list(sample), dtype=float) for sample in (values, reference))
    spread = float(below.std(ddof=1))
    if spread == 0:
        return (float("nan"),) * 4
    ratio = float(above.std(ddof=1)) / spread
    f = stats.f(len(above) - 1, len(below) - 1)
    low, high = ratio / np.sqrt(f.ppf([0.975, 0.025]))
    p = 2 * min(f.cdf(ratio**2), f.sf(ratio**2))
    return ratio, float(low), float(high), float(p)


def summarize(
    frame: pd.DataFrame, by: str, value: str, *, within: Sequence[str] = ()
) -> pd.DataFrame:
    """Mean over seeds with interval, one row a group: "mean", "low", "high" and "seeds".

    Args:
        within: Columns whose values lead the index: a row for each combination and group.
    """
    if within:
        parts = frame.groupby(list(within), sort=False)
        keyed = {key if len(key) > 1 else key[0]: summarize(part, by, value) for key, part in parts}
        return pd.concat(keyed, names=[*within, by])
    rows = {
        group: (*mean_interval(part[value]), part["seed"].nunique())
        for group, part in frame.groupby(by, sort=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high", "seeds"])


def summarize_columns(frame: pd.DataFrame, by: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """:func:`summarize` of several columns (→ what to call them), one row a group and column."""
    names = list(columns.values())
    long = frame.rename(columns=columns).melt([by, "seed"], names, "quantity", "number")
    return summarize(long, "quantity", "number", within=[by]).rename_axis([None, None])


def paired_differences(
    frame: pd.DataFrame, by: str, value: str, *, baseline: Hashable, within: Sequence[str] = ()
) -> pd.DataFrame:
    """Difference of every group to a baseline, paired by seed.

    Args:
        frame: One row a run; at most one run per group and seed (and combination of ``within``).
        by: Column that names the groups.
        baseline: The group that is subtracted.
        within: Columns, e.g. the gradient regime: compare within each combination of their values
            by itself. One that lacks the baseline, or has nothing else, is left out.

    Returns:
        Index = group (after ``within``, in the order of the frame); columns "difference", "low",
        "high" (95 % t-interval), "p" (of the paired t-test), "q" (the same by
        :func:`benjamini_hochberg` over the rows of the table), "seeds" (those that both have) and
        "decided": whether q is below 5 %, of three seeds or more.

    Raises:
        InputError: No run is of the baseline; or two runs of one group share a seed: something else
            differs between them.
    """
    columns = ["difference", "low", "high", "p", "q", "seeds", "decided"]
    if within:
        tables = {
            key if len(key) > 1 else key[0]: paired_differences(part, by, value, baseline=baseline)
            for key, part in frame.groupby(list(within), sort=False)
            if baseline in set(part[by]) and part[by].nunique() > 1
        }
        if tables:
            return corrected(pd.concat(tables, names=[*within, by]))
        nothing = pd.MultiIndex.from_arrays([[]] * (len(within) + 1), names=[*within, by])
        return pd.DataFrame(index=nothing, columns=columns)
    _one_run_each(frame, by)
    if baseline not in set(frame[by]):
        there = ", ".join(map(str, frame[by].unique()))
        raise InputError(f"no run has {by} = {baseline}, the baseline; there are {there or 'none'}")
    wide = frame.pivot(index="seed", columns=by, values=value)
    rows = {}
    for group in frame[by].unique():
        if group == baseline:
            continue
        differences = (wide[group] - wide[baseline]).dropna()
        p = mean_test(differences)
        rows[group] = (*mean_interval(differences), p, p, len(differences), False)
    return corrected(pd.DataFrame.from_dict(rows, orient="index", columns=columns))


def corrected(differences: pd.DataFrame) -> pd.DataFrame:
    """Differences that are read together, with their q-values, and what these decide.

    Two seeds decide nothing: a test of one degree of freedom rests on its assumption alone.
    """
    q = benjamini_hochberg(differences["p"])
    return differences.assign(q=q, decided=(q < LEVEL) & (differences["seeds"] >= FEWEST))


def p_text(p: float) -> str:
    """A p- or q-value as text: never as zero, and nothing where there was no test."""
    if np.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def readable(differences: pd.DataFrame) -> pd.DataFrame:
    """Differences as a reader wants them: each with its interval in one column, p and q as texts.

    Spaces in these do not break, so that a page may wrap all other cells.

    Where there are fewer than three seeds, q and what it decides are left out.
    """
    texts = {"difference": [as_text(row) for _, row in differences.iterrows()]}
    for name in {"p", "q"} & {*differences}:
        texts[name] = [p_text(p) for p in differences[name]]
    texts = {name: [t.replace(" ", "\xa0") for t in column] for name, column in texts.items()}
    texts["decided"] = ["yes" if decided else "no" for decided in differences["decided"]]
    few = "seeds" in differences and differences["seeds"].max() < FEWEST
    hidden = ["low", "high", *(["q", "decided"] if few else [])]
    shown = differences.assign(**texts).drop(columns=hidden, errors="ignore").round(2)
    return shown.rename(columns={"difference": "difference [95 % interval]"})


def standing(difference: pd.Series, margin: float = MARGIN) -> str:
    """What a row of :func:`paired_differences` shows: three words that pages keep apart.

    Args:
        margin: See :func:`equivalence`; 0 = no difference is too small to matter.

    Returns:
        "decided": q is below 5 %; "equivalent within 0.5": it is not, and the two one-sided tests,
        by themselves, place the difference within the margin; else, and of two seeds,
        "inconclusive".
    """
    if difference["decided"]:
        return "decided"
    if difference["seeds"] < FEWEST:
        return "inconclusive"
    # The 90 % interval, from the 95 % one.
    freedom = difference["seeds"] - 1
    shorter = stats.t.ppf(0.95, freedom) / stats.t.ppf(0.975, freedom) if freedom else np.nan
    half = shorter * (difference["high"] - difference["low"]) / 2
    within = abs(difference["difference"]) + half < margin
    return f"equivalent within {margin:g}" if within else "inconclusive"


def image_deviation(first: np.ndarray, second: np.ndarray, *, samples: int = 1000) -> float:
    """What the choice of the images adds to a difference of mIoU: a standard deviation, in percent.

    Bootstrap: images are drawn with replacement, the same ones for all runs, and the difference of
    the methods' means over seeds is taken anew.

    Args:
        first: (seeds, images, classes, classes) confusion matrices of a method, image by image.
        second: The same of another method, on the same images.
        samples: Number of draws.
    """
    images = first.shape[1]
    rng = np.random.default_rng(0)
    weights = rng.multinomial(images, np.full(images, 1 / images), size=samples)
    means = []
    for method in (first, second):
        drawn = (torch.from_numpy(np.tensordot(weights, run, axes=1)) for run in method)
        means.append(torch.stack([100 * iou(counts).nanmean(dim=-1) for counts in drawn]).mean(0))
    return float((means[0] - means[1]).std())


def over_images(values: Iterable[float], deviation: float) -> tuple[float, float, float]:
    """Mean and 95 % interval, (mean, low, high), for other seeds *and* other images.

    The variances of both add up: mean ± t_{n-1} √(s² / n + v²), with n seeds, the deviation s of
    their values and v of the images. t is that of the seeds, the fewer, so the interval covers
    more than it says where the images weigh more.

    Args:
        values: One number per seed; differences, for a paired comparison.
        deviation: v, see :func:`image_deviation`.
    """
    mean, _, high = mean_interval(values := list(values))
    factor = stats.t.ppf(0.975, len(values) - 1) if len(values) > 1 else np.nan
    half = math.hypot(high - mean, factor * deviation)
    return mean, mean - half, mean + half


class AdditiveModel(NamedTuple):
    """The fit of :func:`additive_model`."""

    #: Index (method, baseline), each pair once; columns "difference", "low", "high" (simultaneous
    #: intervals) and "decided": whether the interval excludes zero.
    differences: pd.DataFrame
    residuals: pd.DataFrame  #: What the model leaves: one row a seed, one column a method.
    deviation: float  #: Their standard deviation, over ``freedom`` degrees of freedom.
    freedom: int  #: (m - 1)(n - 1) of m methods and n seeds.


def additive_model(frame: pd.DataFrame, by: str, value: str) -> AdditiveModel:
    """All differences between methods at once, with one spread estimated from all of them.

    The model is value = method + seed + noise, with noise of one variance for all methods; compare
    the columns of ``residuals`` before believing that. Tukey's intervals
    d_ij ± q_{m, (m-1)(n-1)} s / √n, q the quantile of the studentized range and s the
    deviation of the residuals, cover all m(m-1)/2 differences at once with 95 % confidence.

    Args:
        frame: One row a run: at most one per method and seed. Seeds that a method lacks are left
            out of all.
        by: Column that names the methods.

    Raises:
        InputError: Two runs of one method share a seed, or fewer than two methods or seeds remain.

    Source: Tukey, The problem of multiple comparisons, 1953; for randomized blocks, Box, Hunter and
    Hunter, Statistics for Experimenters, 1978.
    """
    _one_run_each(frame, by)
    wide = frame.pivot(index="seed", columns=by, values=value)[list(frame[by].unique())]
    wide = wide.dropna()
    seeds, methods = wide.shape
    if min(seeds, methods) < 2:
        raise InputError(
            f"a model of {by} and seed needs two of each; of {methods} {by} all have {seeds} in "
            "common"
        )
    means = wide.mean()
    residuals = wide.sub(means).sub(wide.mean(axis=1), axis=0) + means.mean()
    freedom = (methods - 1) * (seeds - 1)
    deviation = float(np.sqrt(np.square(residuals.to_numpy()).sum() / freedom))
    half = _range_quantile(methods, freedom) * deviation / np.sqrt(seeds)
    rows = {(a, b): means[a] - means[b] for a, b in itertools.combinations(wide.columns, 2)}
    found = pd.Series(rows).rename_axis([by, "baseline"]).to_frame("difference")
    found = found.assign(low=found["difference"] - half, high=found["difference"] + half)
    found["decided"] = found["difference"].abs() > half
    return AdditiveModel(found, residuals, deviation, freedom)


# scipy integrates it anew each time, a fifth of a second.
@functools.cache
def _range_quantile(groups: int, freedom: int) -> float:
    return float(stats.studentized_range.ppf(0.95, groups, freedom))


def _one_run_each(frame: pd.DataFrame, by: str) -> None:
    if frame.duplicated([by, "seed"]).any():
        raise InputError(
            f"several runs share one {by} and seed; pairing by seed needs one run each: "
            "filter the frame first"
        )


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
    """Least squares through log y against log x, both positive; two points have no interval."""
    log_x, log_y = (np.log(np.asarray(list(values), dtype=float)) for values in (x, y))
    line = stats.linregress(log_x, log_y)
    freedom = len(log_x) - 2
    half = stats.t.ppf(0.975, freedom) * line.stderr if freedom > 0 else float("nan")
    return Fit(float(line.slope), float(line.slope - half), float(line.slope + half))
