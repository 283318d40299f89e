"""Intervals against scipy's own, and against what they promise."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from emastudy.study.statistics import (
    fit_exponent,
    mean_interval,
    paired_differences,
    spread_ratio_interval,
    summarize,
    summarize_columns,
)


def test_the_interval_is_students():
    values = [1.0, 2.5, 3.0, 7.0]
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((np.mean(values), interval.low, interval.high))


def test_one_seed_has_no_interval():
    mean, low, high = mean_interval([3.0])
    assert mean == 3.0
    assert np.isnan([low, high]).all()


def test_values_that_agree_have_an_interval_without_width():
    assert mean_interval([4.0, 4.0, 4.0]) == (4.0, 4.0, 4.0)


def test_the_interval_of_a_ratio_of_spreads_covers():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        ratio, low, high = spread_ratio_interval(3 * rng.normal(size=5), rng.normal(size=5))
        assert low < ratio < high
        covered += low < 3 < high
    assert stats.binomtest(covered, 400, 0.95).pvalue > 0.01
    assert np.isnan(spread_ratio_interval([1.0, 2.0], [1.0, 1.0])).all()


def frame():
    rng = np.random.default_rng(0)
    seed_effect = 10 * rng.standard_normal(5)
    return pd.DataFrame(
        [
            {"method": method, "seed": s, "miou": 50 + seed_effect[s] + gain + 0.1 * rng.normal()}
            for method, gain in (("a", 0.0), ("b", 1.0))
            for s in range(5)
        ]
    )


def test_pairing_takes_out_what_seeds_share():
    table = paired_differences(frame(), "method", "miou", baseline="a")
    row = table.loc["b"]
    assert row["low"] < 1.0 < row["high"]
    assert row["decided"]
    assert row["seeds"] == 5
    wide = frame().pivot(index="seed", columns="method", values="miou")
    interval = stats.ttest_rel(wide["b"], wide["a"]).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    # Unpaired, the spread over seeds hides it.
    summary = summarize(frame(), "method", "miou")
    assert summary.loc["b", "low"] < summary.loc["a", "high"]


def test_pairs_are_compared_within_every_combination_that_has_the_baseline():
    parts = [frame().assign(gradient=g, T=t) for g, t in (("unrolled", 2), ("detached", 1))]
    alone = frame().query("method == 'a'").assign(gradient="one_step", T=1)
    without = frame().query("method == 'b'").assign(gradient="one_step", T=2)
    every = pd.concat([*parts, alone, without])
    table = paired_differences(every, "method", "miou", baseline="a", within=["gradient", "T"])
    assert list(table.index) == [("unrolled", 2, "b"), ("detached", 1, "b")]
    assert table.index.names == ["gradient", "T", "method"]
    expected = paired_differences(frame(), "method", "miou", baseline="a")
    assert table.loc[[("detached", 1, "b")]].to_numpy().tolist() == expected.to_numpy().tolist()
    by_one = paired_differences(pd.concat(parts), "method", "miou", baseline="a", within=["T"])
    assert list(by_one.index) == [(2, "b"), (1, "b")]
    assert paired_differences(alone, "method", "miou", baseline="a", within=["T"]).empty


def test_two_runs_of_one_seed_cannot_be_paired():
    double = pd.concat([frame(), frame()])
    with pytest.raises(ValueError, match="pairing by seed"):
        paired_differences(double, "method", "miou", baseline="a")


def test_a_seed_that_one_side_lacks_is_left_out():
    part = frame().query("not (method == 'b' and seed == 3)")
    assert paired_differences(part, "method", "miou", baseline="a").loc["b", "seeds"] == 4


def test_several_quantities_are_summarised_group_by_group():
    runs = frame().assign(double=lambda runs: 2 * runs["miou"])
    found = summarize_columns(runs, "method", {"double": "twice", "miou": "once"})
    assert list(found.index) == [("a", "twice"), ("a", "once"), ("b", "twice"), ("b", "once")]
    alone = summarize(runs, "method", "miou")
    assert found.loc[("b", "once")].tolist() == alone.loc["b"].tolist()
    assert found.loc[("a", "twice"), "low"] == pytest.approx(2 * alone.loc["a", "low"])
    assert found["seeds"].tolist() == [5] * 4


def test_exponents_of_known_laws():
    n = np.array([10.0, 20.0, 50.0, 100.0])
    fit = fit_exponent(n, 3 * n**2)
    assert (fit.exponent, fit.low, fit.high) == pytest.approx((2, 2, 2))
    assert np.isnan(fit_exponent(n[:2], n[:2]).low)
    noisy = 3 * n**2 * [1.0, 1.1, 0.9, 1.0]
    line = stats.linregress(np.log(n), np.log(noisy))
    fit = fit_exponent(n, noisy)
    assert fit.exponent == pytest.approx(line.slope)
    # Student's 97.5 % quantile with two degrees of freedom, from tables.
    assert fit.high - fit.exponent == pytest.approx(4.3027 * line.stderr, rel=1e-4)
